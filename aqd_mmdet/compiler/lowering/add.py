"""Additions of two maps on one step."""

import numpy as np

from ...layers.add import QuantAdd
from ...program import ops as ir
from ..builder import Builder, Scale, program_grid
from ..graph import LayerCall
from ..values import Affine
from .rules import lowers


@lowers(QuantAdd)
def lower_add(builder: Builder, call: LayerCall, layer: QuantAdd) -> Affine:
    step = float(layer.step)
    branch = Scale.uniform(step, program_grid(layer.branch_grid()))
    x, y = (
        builder.quantize(
            builder.values[node], branch, f'{call.name}.{operand}'
        )
        for node, operand in zip(call.inputs, 'xy', strict=True)
    )
    builder.codes[call.node] = (x, y)
    channels = builder.op(x).channels
    op = ir.Add(call.name, (x, y), channels, program_grid(layer.grid))
    size = builder.size_of(call.node)
    return Affine(builder.emit(op, size), size, np.array([step]), np.zeros(1))
