"""Additions round both branches to one step."""

from aqd_mmdet.layers import QuantAdd
from aqd_mmdet.program import ops as ir
from tests.compiler.lowering.graphs import MAP, OneNode, start


def test_branches_are_wider_than_their_sum():
    layer = QuantAdd(bits=2)
    start(layer, 1.5)  # codes 0..3 of a step of 1/2
    graph = OneNode(MAP, MAP)
    value = graph.lower_layer(layer)
    assert value.source == 'layer'
    assert (value.scale.tolist(), value.offset.tolist()) == ([0.5], [0.0])
    assert graph.builder.op('layer') == ir.Add(
        'layer', ('layer.x', 'layer.y'), 2, ir.Grid(0, 3)
    )
    for name in ('layer.x', 'layer.y'):
        assert graph.builder.op(name).grid == ir.Grid(-16, 16)
    (codes,) = graph.builder.codes.values()
    assert codes == ('layer.x', 'layer.y')
