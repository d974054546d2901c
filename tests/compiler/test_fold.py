"""What a network is folded to, and what stays float is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from aqd_mmdet.compiler.fold import fold
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from tests.factories import (
    MEAN,
    digits_config,
    narrow_program,
    normalised,
    pixels,
    started,
)


def test_weights_are_stored_once_for_all_levels():
    program = narrow_program()
    convs = [op for op in program.ops if isinstance(op, ir.Convolution)]
    towers = [op for op in convs if op.weights == 'bbox_head.cls_convs.0.conv']
    assert len(towers) == 4
    assert len(program.weights) < len(convs)
    # Each level is requantised by its own norm.
    tables = [
        op.multipliers.b.tolist()
        for op in program.ops
        if isinstance(op, ir.Requantize)
        and op.inputs[0] in {t.output for t in towers}
    ]
    assert len(tables) == 4
    assert tables[0] != tables[1]


def test_pyramid_additions_share_their_step():
    program = narrow_program()
    adders = [op for op in program.ops if op.output.startswith('neck.adds.0')]
    sums = [op for op in adders if isinstance(op, ir.Add)]
    by_output = {op.output: op for op in program.ops}
    upsampled = [by_output[s.inputs[1]] for s in sums]
    assert all(isinstance(op, ir.Upsample) for op in upsampled)
    # The second reads the first's sum as it is: same step, no rounding.
    assert upsampled[1].inputs[0] == sums[0].output


def test_folding_again_follows_the_weights(compiled):
    net = compiled()
    with torch.no_grad():
        net.model.bbox_head.retina_cls.bias += 1
    again = fold(net.trace, MEAN, 32, FixedPoint()).program
    before = net.folded.program
    assert [op.output for op in again.ops] == [op.output for op in before.ops]
    changed = [
        a.output
        for a, b in zip(again.ops, before.ops, strict=True)
        if isinstance(a, ir.Requantize)
        and not np.array_equal(a.multipliers.b, b.multipliers.b)
    ]
    assert changed == [f'output0.{level}' for level in range(4)]


def break_convolution(model: nn.Module) -> None:
    model.backbone.layer1[0].conv1 = nn.Conv2d(16, 16, 3, padding=1)


def break_norm(model: nn.Module) -> None:
    model.bbox_head.reg_convs[1].bn = nn.GroupNorm(4, 48)


def break_addition(model: nn.Module) -> None:
    block = model.backbone.layer2[1]
    del block.adds
    block.__class__ = type(block).__mro__[1]


@pytest.mark.parametrize(
    'spoil, where, operator',
    [
        (break_convolution, 'backbone.layer1.0.conv1', 'aten.conv2d'),
        (break_norm, 'bbox_head.reg_convs.1.bn', 'aten.group_norm'),
        (break_addition, 'backbone.layer2.1', 'aten.add'),
    ],
)
def test_what_stays_float_is_refused_by_name(build, spoil, where, operator):
    model = started(build(2))
    spoil(model)
    with pytest.raises(UserError) as caught:
        fold(trace(model), MEAN, 32, FixedPoint())
    message = str(caught.value)
    assert message.startswith(f'{where}: {operator}'), message
    assert 'stays float' in message
    assert '.py", line ' in message


def test_a_network_of_floats_only_is_refused(build):
    with pytest.raises(UserError, match='backbone.conv1: aten.conv2d'):
        fold(trace(build('float')), MEAN, 32, FixedPoint())


@pytest.mark.parametrize(
    'modules, where',
    [
        (['neck.*', 'bbox_head.*'], 'neck.lateral_convs.0.conv'),
        (['backbone.*'], 'backbone.conv1'),
    ],
)
def test_what_a_partial_recipe_left_in_float_is_named(build, modules, where):
    recipe = digits_config('fp').recipe
    recipe = [*recipe, dict(modules=modules, float=True)]
    model = started(build(2, recipe=recipe)).eval()
    assert model(normalised(pixels(1, 3, 64, 64)), mode='tensor')
    with pytest.raises(
        UserError, match=f'^{where}: aten.conv2d.* stays float'
    ):
        fold(trace(model), MEAN, 32, FixedPoint())
