"""Activations become tables of the codes that they can read."""

import numpy as np
import torch
from torch import nn

from aqd_mmdet.compiler.values import clamped
from aqd_mmdet.layers import FixedPointActivation, QuantActivation
from aqd_mmdet.program import ops as ir
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


def fixed_point(*clips: float) -> FixedPointActivation:
    """Codes -256..255 of a step for each clip value."""
    layer = FixedPointActivation(nn.LeakyReLU(0.5), bits=9)
    layer.start(torch.tensor(clips).view(1, -1, 1, 1))
    return layer


def test_a_row_for_each_step():
    graph = OneNode((1, 3, 4, 6))
    value = graph.lower_layer(fixed_point(255.0, 63.75, 255.0))
    op = graph.builder.op('layer')
    assert isinstance(op, ir.Lookup)
    assert (op.first, op.rows, op.table.dtype) == (-256, (1, 0, 1), np.int32)
    assert op.grid == ir.Grid(-(2**15), 2**15 - 1)
    # A step of the output is 2^-7 of one of the input, in both rows.
    row = [*range(-256 * 64, 0, 64), *range(0, 256 * 128, 128)]
    assert op.table.tolist() == row * 2
    assert value.scale.tolist() == [2.0**-7, 2.0**-9, 2.0**-7]
    assert value.source == 'layer'
    table = graph.builder.op('layer.in').multipliers
    assert (table.m * 2.0 ** -table.s.astype(float)).tolist() == [1, 4, 1]


def test_one_step_has_one_row():
    graph = OneNode((1, 3, 4, 6))
    layer = fixed_point(255.0)
    value = graph.lower_layer(layer)
    op = graph.builder.op('layer')
    # The input's codes -127..127 are of the step already.
    assert (op.inputs, op.first, op.rows) == (('x0',), -127, (0,))
    assert op.table.shape == (255,)
    assert value.scale.tolist() == [2.0**-7]


def test_a_relu_leaves_fewer_codes_of_a_fixed_point():
    graph = OneNode((1, 2, 4, 6))
    (x,), values = graph.inputs, graph.builder.values
    values[x] = clamped(values[x], 0.0, float('inf'))
    graph.lower_layer(fixed_point(255.0, 63.75))
    op = graph.builder.op('layer')
    assert (op.first, op.rows) == (0, (1, 0))
    assert op.table.tolist() == [*range(0, 256 * 128, 128)] * 2
