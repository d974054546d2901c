"""Products of codes, on the product of both steps."""

import pytest

from aqd_mmdet.layers import QuantMultiply
from aqd_mmdet.program import ops as ir
from tests.compiler.lowering.graphs import MAP, OneNode, start

ONE = (1, 2, 1, 1)


@pytest.mark.parametrize(
    'shapes, inputs',
    [
        ((MAP, MAP), ('layer.x', 'layer.y')),
        ((MAP, ONE), ('layer.x', 'layer.y')),
        # One value a map is the second operand of the program's.
        ((ONE, MAP), ('layer.y', 'layer.x')),
    ],
)
def test_operands(shapes, inputs):
    layer = QuantMultiply(bits=3)
    for quantizer, clip in zip(layer.operands, (6.0, 1.5), strict=True):
        start(quantizer, clip)  # codes -3..3 of steps of 2 and 1/2
    graph = OneNode(*shapes)
    value = graph.lower_layer(layer)
    assert value.scale.tolist() == [1.0]
    assert value.size.numbers[:2] == (4, 6)
    assert graph.builder.op('layer') == ir.Multiply(
        'layer', inputs, 2, ir.Grid(-9, 9)
    )
