"""Convolutions and linear layers become sums of codes times weights."""

import numpy as np
import pytest
import torch

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
    assert value.size.numbers == (2, 6)


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
