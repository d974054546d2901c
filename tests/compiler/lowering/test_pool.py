"""Averages: a mean with fractional bits, or a convolution of ones."""

import numpy as np

from aqd_mmdet.layers import QuantAvgPool, QuantMean
from aqd_mmdet.program import ops as ir
from tests.compiler.lowering.graphs import MAP, OneNode, start


def test_means_have_eight_fractional_bits():
    layer = QuantMean()
    start(layer.input_quantizer, 127.5)  # codes 0..255 of a step of 1/2
    graph = OneNode(MAP)
    value = graph.lower_layer(layer)
    assert value.scale.tolist() == [2.0**-9]
    assert value.size.numbers[:2] == (1, 1)
    assert graph.builder.op('layer') == ir.Mean(
        'layer', ('layer.in',), 2, ir.Grid(0, 255 * 256)
    )


def test_windows_are_convolutions_of_ones():
    layer = QuantAvgPool((2, 3), (2, 3), (0, 1))
    start(layer.input_quantizer, 127.5)
    graph = OneNode(MAP)
    value = graph.lower_layer(layer)
    assert value.scale.tolist() == [0.5 / 6]
    assert graph.builder.op('layer') == ir.Convolution(
        'layer', ('layer.in',), 2, ir.INT32, (2, 3), (2, 3), (0, 1), (1, 1),
        'layer', 2,
    )  # fmt: skip
    codes = graph.builder.weights['layer'].codes
    assert np.array_equal(codes, np.ones((2, 1, 2, 3)))
