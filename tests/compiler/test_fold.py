"""Whole networks: all executors equal in every integer of every layer."""

import numpy as np
import pytest
import torch
from torch import nn

from aqd_mmdet.compiler.executor import Executor
from aqd_mmdet.compiler.fold import fold
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.compiler.verify import compare, new_agreements
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.bounds import prove
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.runtime import reference
from tests import oracle
from tests.factories import MEAN, digits_config, normalised, pixels, started


def every_tensor(program: ir.Program, image: torch.Tensor):
    found: dict[str, np.ndarray] = {}
    faster: dict[str, np.ndarray] = {}
    reference.run(
        program,
        image.numpy(),
        lambda op, values: found.__setitem__(op.output, values),
    )
    Executor(program).run(
        image,
        lambda op, values: faster.__setitem__(op.output, values.numpy()),
    )
    return found, faster


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
@pytest.mark.parametrize('depth', [18, 34, 50])
@pytest.mark.parametrize('bits', [2, 3, 4, 8])
def test_oracle_reference_and_executor_are_equal(
    compiled, depth, bits, detector
):
    program = compiled(depth, bits, detector).folded.program
    prove(program)
    image = pixels(1, 3, 37, 45)  # odd sides, down to a map of 1 x 1
    found, faster = every_tensor(program, image)
    expected = oracle.run(program, image[0].tolist())
    assert len(expected) == len(program.ops) + 1
    for op in program.ops:
        values = found[op.output]
        assert values.dtype == op.grid.dtype == faster[op.output].dtype
        assert values[0].tolist() == expected[op.output], op.output
        assert np.array_equal(values, faster[op.output]), op.output


def test_batches_of_three(compiled):
    program = compiled().folded.program
    image = pixels(3, 3, 64, 40)
    found, faster = every_tensor(program, image)
    for name, values in found.items():
        assert np.array_equal(values, faster[name]), name
    alone, _ = every_tensor(program, image[1:2])
    for name, values in alone.items():
        assert np.array_equal(values, found[name][1:2]), name


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
@pytest.mark.parametrize('bits', [2, 3, 4, 8])
def test_codes_are_the_simulations_where_layers_are_fed_alike(
    compiled, bits, detector
):
    net = compiled(18, bits, detector)
    image = pixels(2, 3, 96, 128)
    agreements = new_agreements()
    compare(net.trace, net.folded, image, normalised(image), agreements)
    read = {n for names in net.folded.codes.values() for n in names}
    # The stem's input is the image itself.
    assert set(agreements) == read
    total = sum(a.count for a in agreements.values())
    equal = sum(a.equal_per_layer for a in agreements.values())
    assert equal / total >= 0.9999
    assert max(a.worst_per_layer for a in agreements.values()) <= 1


def test_weights_are_stored_once_for_all_levels(compiled):
    program = compiled().folded.program
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


def test_pyramid_additions_share_their_step(compiled):
    program = compiled().folded.program
    adders = [op for op in program.ops if op.output.startswith('neck.adds.0')]
    sums = [op for op in adders if isinstance(op, ir.Add)]
    made = {op.output: op for op in program.ops}
    upsampled = [made[s.inputs[1]] for s in sums]
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


def test_tracing_leaves_the_detector_as_it_was(build):
    model = build(2).train()
    before = model.bbox_head.retina_cls.forward
    trace(model)
    assert model.training
    assert model.bbox_head.retina_cls.forward == before
