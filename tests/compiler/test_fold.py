"""What a network is folded to, and what stays float is refused by name."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead
from torch import nn

from aqd_mmdet.compiler.fold import fold, fold_regions
from aqd_mmdet.compiler.trace import trace, trace_regions
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantActivation, QuantConv2d, QuantLinear
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.quantizers import TensorQuantizer, build_grid
from aqd_mmdet.runtime import reference
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


@pytest.fixture
def fcos(build) -> nn.Module:
    model = started(build(2, 'fcos'))
    model.bbox_head.norm_on_bbox = False
    with torch.no_grad():
        for level, scale in enumerate(model.bbox_head.scales):
            scale.scale.fill_(level + 1)
    return model


@pytest.mark.slow
def test_exponentials_at_the_end_are_left_to_the_decoder(fcos):
    image = pixels(1, 3, 64, 64)
    folded = fold(trace(fcos), MEAN, 32, FixedPoint())
    assert folded.boxes_are_exponents
    output = folded.program.outputs[1]
    # Levels have one scale, the smallest of their own.
    ops = folded.program.by_output
    ratios = [
        op.multipliers.m / 2.0**op.multipliers.s
        for op in map(ops.__getitem__, output.tensors)
    ]
    assert [float(x[0]) for x in ratios] == pytest.approx([1, 2, 3, 4])
    # The program is that of a head that ends with the exponents.
    head = fcos.bbox_head

    def exponents(x, scale, stride):
        scores, boxes, _, features = AnchorFreeHead.forward_single(head, x)
        return scores, scale(boxes), head.conv_centerness(features)

    head.forward_single = exponents
    other = fold(trace(fcos), MEAN, 32, FixedPoint())
    assert not other.boxes_are_exponents
    assert other.program.outputs == folded.program.outputs
    found, expected = (
        reference.run(each.program, image.numpy()) for each in (folded, other)
    )
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name


@pytest.mark.slow
def test_factors_of_exponentials_are_addends_of_exponents(fcos):
    plain = fold(trace(fcos), MEAN, 32, FixedPoint()).program
    forward = fcos.bbox_head.forward_single

    def in_strides(x, scale, stride):
        scores, boxes, centers = forward(x, scale, stride)
        return scores, boxes * stride, centers

    fcos.bbox_head.forward_single = in_strides
    folded = fold(trace(fcos), MEAN, 32, FixedPoint())
    assert folded.boxes_are_exponents
    image = pixels(1, 3, 64, 64).numpy()
    found, before = (
        reference.run(program, image) for program in (folded.program, plain)
    )
    scale = folded.program.outputs[1].scale
    for level, stride in enumerate((8, 16, 32, 64)):
        name = f'output1.{level}'
        addends = (found[name] - before[name]) * scale
        assert addends == pytest.approx(np.log(stride), abs=scale)


def exponentials_of_scores(head: nn.Module) -> None:
    head.conv_cls = nn.Sequential(head.conv_cls, Exp())


def exponentials_inside(head: nn.Module) -> None:
    head.conv_reg = nn.Sequential(Exp(), head.conv_reg)


def exponentials_that_are_clamped(head: nn.Module) -> None:
    forward = head.forward_single

    def limited(x, scale, stride):
        scores, boxes, centers = forward(x, scale, stride)
        return scores, boxes.clamp(max=100), centers

    head.forward_single = limited


def exponentials_of_one_level(head: nn.Module) -> None:
    forward = head.forward_single

    def mixed(x, scale, stride):
        head.norm_on_bbox = stride > 8
        return forward(x, scale, stride)

    head.forward_single = mixed


class Exp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()


@pytest.mark.parametrize(
    'spoil',
    [
        exponentials_of_scores,
        exponentials_inside,
        exponentials_that_are_clamped,
        exponentials_of_one_level,
    ],
)
def test_other_exponentials_stay_float(fcos, spoil):
    spoil(fcos.bbox_head)
    with pytest.raises(
        UserError, match=r': aten\.exp\.default .* stays float'
    ):
        fold(trace(fcos), MEAN, 32, FixedPoint())


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


class FlatHead(nn.Module):
    """A head of regions that does something with flattened maps."""

    def __init__(self, step: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.step = step
        self.conv = QuantConv2d(3, 2, 1)
        self.norm = nn.BatchNorm1d(8)
        self.act = started(QuantActivation(nn.SiLU()))
        features = step(self, torch.zeros(2, 8)).shape[1]
        self.fc = QuantLinear(features, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.fc(self.step(self, self.conv(x).flatten(1))),)


def fold_flat(step: Callable) -> ir.Program:
    head = started(FlatHead(step).eval())
    detector = nn.Module()
    detector.head = head
    detector.data_preprocessor = SimpleNamespace(pad_size_divisor=1)
    maps = started(TensorQuantizer(build_grid('signed', 8)))
    regions = trace_regions(detector, head, (3, 2, 2))
    return fold_regions(regions, 3, maps, FixedPoint()).program


@pytest.mark.parametrize(
    'step',
    [
        lambda head, x: x.relu() * 2.0,
        lambda head, x: nn.functional.dropout(x.clamp(-1, 3), training=False),
    ],
)
def test_flattened_maps_are_read_as_windows(step):
    (conv,) = [op for op in fold_flat(step).ops if op.output == 'head.fc']
    assert conv.kernel == (2, 2)


@pytest.mark.parametrize(
    'step, where',
    [
        (lambda head, x: torch.cat([x, x], 1), 'detector: aten.cat'),
        (lambda head, x: head.norm(x), 'norm: aten.batch_norm'),
        (lambda head, x: head.norm(x.relu()), 'norm: aten.batch_norm'),
        (lambda head, x: x[:, :5], 'detector: aten.slice'),
        (lambda head, x: x[:, -5:], 'detector: aten.slice'),
        (lambda head, x: head.act(x), 'act: aqd.layer'),
    ],
)
def test_steps_that_no_window_has_are_refused(step, where):
    with pytest.raises(UserError, match='several pixels') as caught:
        fold_flat(step)
    assert str(caught.value).startswith(where)
