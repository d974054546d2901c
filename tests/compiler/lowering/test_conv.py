"""Convolutions and linear layers become sums of codes times weights."""

import numpy as np
import pytest
import torch

from aqd_mmdet.compiler.values import clamped
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantConv2d, QuantLinear
from aqd_mmdet.program import ops as ir
from tests.compiler.lowering.graphs import MAP, OneNode, start

NAMES = dict(weight_bits=8, act_bits=2)


def begun(layer: QuantConv2d | QuantLinear) -> QuantConv2d | QuantLinear:
    """Weights of a step of 1/127, inputs 0..3 of a step of 1/2."""
    torch.nn.init.constant_(layer.weight, 1.0)
    torch.nn.init.constant_(layer.bias, 7.0)
    start(layer.weight_quantizer, 1.0)
    start(layer.input_quantizer, 1.5)
    return layer


def test_convolution():
    layer = begun(
        QuantConv2d(2, 4, (3, 1), (2, 1), (1, 0), (1, 1), 2, **NAMES)
    )
    graph = OneNode(MAP)
    value = graph.lower_layer(layer)
    assert graph.builder.op('layer') == ir.Convolution(
        'layer', ('layer.in',), 4, ir.INT32, (3, 1), (2, 1), (1, 0), (1, 1),
        'layer', 2,
    )  # fmt: skip
    assert graph.builder.op('layer.in').grid == ir.Grid(0, 3)
    weights = graph.builder.weights['layer']
    assert weights.bits == 8
    assert np.array_equal(weights.codes, np.full((4, 1, 3, 1), 127))
    assert value.scale == pytest.approx([0.5 / 127])
    assert value.offset.tolist() == [7.0] * 4
    assert value.size.numbers[:2] == (2, 6)


def test_a_linear_layer_reads_maps_of_one_pixel_side_by_side():
    graph = OneNode((1, 2, 1, 1), (1, 3, 1, 1))
    rows = [
        graph.node(torch.ops.aten.flatten.using_ints, x, 1)
        for x in graph.inputs
    ]
    for row in rows:
        graph.lower(row)
    both = graph.node(torch.ops.aten.cat.default, rows, 1)
    graph.lower(both)
    graph.inputs = [both]
    graph.lower_layer(begun(QuantLinear(5, 4, **NAMES)))
    assert graph.builder.op('layer').kernel == (1, 1)
    assert graph.builder.weights['layer'].shape == (4, 5, 1, 1)


def test_a_linear_layer_has_a_window_as_large_as_the_map():
    graph = OneNode((1, 2, 2, 3))
    # Maps are flattened in front of it: their values stay those of the map.
    (x,) = graph.inputs
    x.meta['val'] = torch.zeros(1, 12)
    graph.lower_layer(begun(QuantLinear(12, 5, **NAMES)))
    op = graph.builder.op('layer')
    assert (op.kernel, op.padding, op.channels) == ((2, 3), (0, 0), 5)
    assert graph.builder.weights['layer'].shape == (5, 2, 2, 3)


def test_weights_that_are_not_finite_are_refused():
    layer = begun(QuantConv2d(2, 4, 1, **NAMES))
    torch.nn.init.constant_(layer.weight, float('nan'))
    with pytest.raises(UserError, match='^layer: a weight is not finite'):
        OneNode(MAP).lower_layer(layer)


def with_channels(
    layer: QuantConv2d, steps: list[float], zeros: list[int]
) -> QuantConv2d:
    """Codes 0..15 of steps and zero points of channels; weights of 1."""
    torch.nn.init.constant_(layer.weight, 1.0)
    torch.nn.init.zeros_(layer.bias)
    start(layer.weight_quantizer, 1.0)
    quantizer = layer.input_quantizer
    step, zero = (
        torch.tensor(x).float().view(quantizer.clip.shape)
        for x in (steps, zeros)
    )
    quantizer.start((15 - zero) * step, zero)
    return layer


def conv(channels: int, groups: int = 1, **quantization) -> QuantConv2d:
    options = dict(act_bits=4, act_grid='asymmetric', act_per_channel=True)
    return QuantConv2d(
        channels, 2 * channels, 1, groups=groups, **(options | quantization)
    )


def factors(graph: OneNode, name: str) -> list[tuple[float, float]]:
    """What each channel's codes are multiplied by, and what is added."""
    table = graph.builder.op(name).multipliers
    units = 2.0 ** -table.s.astype(float)
    return list(zip(table.m * units, table.b * units - 0.5, strict=True))


def test_a_zero_point():
    layer = with_channels(conv(2, act_per_channel=False), [0.5], [3])
    graph = OneNode(MAP)
    value = graph.lower_layer(layer)
    assert graph.builder.op('layer').zero == (3,)
    assert factors(graph, 'layer.in') == [(2.0, 3.0)]
    assert value.scale == pytest.approx([0.5 / 127])


def test_steps_of_channels_that_are_summed():
    graph = OneNode(MAP)
    value = graph.lower_layer(with_channels(conv(2), [0.5, 0.125], [3, 7]))
    assert graph.builder.op('layer').zero == (3, 7)
    assert factors(graph, 'layer.in') == [(2.0, 3.0), (8.0, 7.0)]
    # A quarter of 127 is 31.75.
    codes = graph.builder.weights['layer'].codes
    assert codes.reshape(4, 2).tolist() == [[127, 32]] * 4
    assert value.scale == pytest.approx([0.5 / 127])


def test_steps_of_channels_by_themselves():
    layer = with_channels(conv(2, groups=2), [0.5, 0.125], [3, 7])
    graph = OneNode(MAP)
    value = graph.lower_layer(layer)
    assert graph.builder.op('layer').zero == (3, 7)
    assert (graph.builder.weights['layer'].codes == 127).all()
    # Two outputs of each channel.
    expected = [0.5 / 127, 0.5 / 127, 0.125 / 127, 0.125 / 127]
    assert value.scale == pytest.approx(expected)


def test_steps_of_channels_behind_a_concatenation():
    graph = OneNode((1, 1, 4, 6), (1, 2, 4, 6))
    whole = graph.node(torch.ops.aten.cat.default, graph.inputs, 1)
    graph.lower(whole)
    graph.inputs = [whole]
    layer = with_channels(conv(3), [0.5, 0.25, 0.125], [3, 7, 0])
    graph.lower_layer(layer)
    joined = graph.builder.op('layer').inputs[0]
    parts = graph.builder.op(joined)
    assert (type(parts), parts.channels) == (ir.Concatenate, 3)
    assert parts.grid == ir.Grid(0, 15)
    first, second = parts.inputs
    assert graph.builder.op(first).inputs == ('x0',)
    assert factors(graph, first) == [(2.0, 3.0)]
    assert graph.builder.op(second).inputs == ('x1',)
    assert factors(graph, second) == [(4.0, 7.0), (8.0, 0.0)]


def test_steps_of_channels_behind_a_slice():
    graph = OneNode((1, 5, 4, 6))
    part = graph.node(torch.ops.aten.slice.Tensor, *graph.inputs, 1, 1, 3)
    graph.lower(part)
    graph.inputs = [part]
    graph.lower_layer(with_channels(conv(2), [0.5, 0.125], [3, 7]))
    op = graph.builder.op(graph.builder.op('layer').inputs[0])
    assert (type(op), op.first, op.channels) == (ir.Slice, 1, 2)
    # Channels that are not taken have the scale of the nearest one.
    assert factors(graph, op.inputs[0]) == [
        *((2.0, 3.0), (2.0, 3.0), (8.0, 7.0), (8.0, 7.0), (8.0, 7.0))
    ]


def test_steps_of_channels_behind_a_slice_of_a_concatenation():
    graph = OneNode((1, 2, 4, 6), (1, 1, 4, 6))
    whole = graph.node(torch.ops.aten.cat.default, graph.inputs, 1)
    graph.lower(whole)
    part = graph.node(torch.ops.aten.slice.Tensor, whole, 1, 1, 3)
    graph.lower(part)
    graph.inputs = [part]
    graph.lower_layer(with_channels(conv(2), [0.5, 0.125], [3, 7]))
    taken = graph.builder.op(graph.builder.op('layer').inputs[0])
    first, second = graph.builder.op(taken.inputs[0]).inputs
    assert factors(graph, first) == [(2.0, 3.0), (2.0, 3.0)]
    assert factors(graph, second) == [(8.0, 7.0)]


def test_two_readers_of_one_value_share_codes_of_equal_scales():
    graph = OneNode(MAP)
    for steps, name in (
        ([0.5, 0.125], 'one'),
        ([0.5, 0.125], 'same'),
        ([0.5, 0.25], 'other'),
    ):
        graph.lower_layer(with_channels(conv(2), steps, [3, 7]), name)
    assert [
        graph.builder.op(name).inputs for name in ('one', 'same', 'other')
    ] == [('one.in',), ('one.in',), ('other.in',)]


def test_a_relu6_in_front_of_channels_of_other_limits_is_refused():
    graph = OneNode(MAP)
    (x,), values = graph.inputs, graph.builder.values
    values[x] = clamped(values[x], 0.0, 6.0)
    with pytest.raises(UserError, match='^layer.in: .*act_per_channel=False'):
        graph.lower_layer(with_channels(conv(2), [0.5, 1.0], [0, 0]))
    # Of these the grid's end, 15, is below 6.
    graph.lower_layer(with_channels(conv(2), [0.25, 0.125], [0, 0]), 'good')
    assert graph.builder.op('good.in').grid == ir.Grid(0, 15)
