"""Maps that regions are read from are codes of the program."""

from aqd_mmdet.program import ops as ir
from aqd_mmdet.quantizers.grid import build_grid
from aqd_mmdet.quantizers.quantizer import TensorQuantizer
from tests.compiler.lowering.graphs import MAP, OneNode, start


def test_a_map_is_rounded():
    layer = TensorQuantizer(build_grid('unsigned', 2))
    start(layer, 1.5)
    graph = OneNode(MAP)
    value = graph.lower_layer(layer, 'roi.input_quantizer')
    assert value.source == 'roi.in'
    assert (value.scale.tolist(), value.offset.tolist()) == ([0.5], [0.0])
    assert graph.builder.op('roi.in').grid == ir.Grid(0, 3)
