"""Products of two maps, or of a map and one value of each channel."""

import numpy as np

from ...layers.multiply import QuantMultiply
from ...program import ops as ir
from ..builder import Builder
from ..graph import LayerCall
from ..values import Affine
from .rules import lowers


@lowers(QuantMultiply)
def lower_multiply(
    builder: Builder, call: LayerCall, layer: QuantMultiply
) -> Affine:
    left, right = layer.operands
    x, x_scale = builder.read(call.inputs[0], left, f'{call.name}.x')
    y, y_scale = builder.read(call.inputs[1], right, f'{call.name}.y')
    builder.codes[call.node] = (x, y)
    ends = [
        a * b
        for a in _ends(builder.op(x).grid)
        for b in _ends(builder.op(y).grid)
    ]
    # What has one value a map is the second operand of the program's.
    if call.inputs[0].meta['val'].shape[2:] == (1, 1):
        x, y = y, x
    op = ir.Multiply(
        call.name,
        (x, y),
        builder.op(x).channels,
        ir.Grid(min(ends), max(ends)),
    )
    size = builder.size_of(call.node)
    scale = x_scale.step * y_scale.step
    return Affine(builder.emit(op, size), size, scale, np.zeros(1))


def _ends(grid: ir.Grid) -> tuple[int, int]:
    return grid.lo, grid.hi
