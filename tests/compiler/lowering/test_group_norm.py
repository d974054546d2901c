"""Group norms of codes, and the formula of each channel behind them."""

import pytest
import torch

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantGroupNorm
from aqd_mmdet.program import ops as ir
from tests.compiler.lowering.graphs import MAP, OneNode, start


def norm(**options: object) -> QuantGroupNorm:
    """Inputs of a step of 1/2."""
    layer = QuantGroupNorm(2, 2, **options)
    start(layer.input_quantizer, 63.5)
    return layer


def test_epsilon_is_in_steps_squared():
    layer = norm(eps=0.25)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([4096.0, -1.0]))
        layer.bias.copy_(torch.tensor([0.5, 2.0]))
    graph = OneNode(MAP)
    value = graph.lower_layer(layer)
    op = graph.builder.op('layer')
    assert isinstance(op, ir.GroupNorm)
    assert (op.inputs, op.groups, op.epsilon) == (('layer.in',), 2, 2**16)
    assert value.scale.tolist() == [1.0, -(2.0**-12)]
    assert value.offset.tolist() == [0.5, 2.0]


def test_the_least_epsilon_is_one():
    graph = OneNode(MAP)
    value = graph.lower_layer(norm(eps=1e-12, affine=False))
    assert graph.builder.op('layer').epsilon == 1
    assert (value.scale.tolist(), value.offset.tolist()) == ([2.0**-12], [0.0])


def test_a_large_epsilon_is_refused():
    with pytest.raises(UserError, match='^layer: eps=1e\\+20 is too large'):
        OneNode(MAP).lower_layer(norm(eps=1e20))


def test_a_float_norm_is_refused():
    graph = OneNode(MAP)
    node = graph.node(torch.ops.aten.group_norm.default, *graph.inputs, 2)
    with pytest.raises(UserError, match='stays float: .*group_norm=dict'):
        graph.lower(node)
