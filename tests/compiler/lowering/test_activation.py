"""Activations become tables of the codes that they can read."""

from torch import nn

from aqd_mmdet.compiler.values import clamped
from aqd_mmdet.layers import QuantActivation
from tests.compiler.lowering.graphs import MAP, OneNode, start


def leaky() -> QuantActivation:
    """Codes -3..3 of a step of 1."""
    layer = QuantActivation(nn.LeakyReLU(0.5), bits=3)
    start(layer, 3.0)
    return layer


def test_one_value_of_each_code():
    table = OneNode(MAP).lower_layer(leaky())
    assert table.source == 'layer.in'
    assert table.values.tolist() == [-1.5, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0]


def test_a_relu_in_front_leaves_fewer_codes():
    graph = OneNode(MAP)
    (x,) = graph.inputs
    values = graph.builder.values
    values[x] = clamped(values[x], 0.0, 2.0)
    assert graph.lower_layer(leaky()).values.tolist() == [0.0, 1.0, 2.0]
