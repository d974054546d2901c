"""Activations that are no clamp: tables."""

import numpy as np
import torch

from ...layers.activation import (
    OUTPUT_GRID,
    FixedPointActivation,
    QuantActivation,
)
from ...program import ops as ir
from ..builder import Builder, program_grid
from ..graph import LayerCall
from ..values import Affine, Table, real
from .rules import lowers


@lowers(QuantActivation)
def lower_activation(
    builder: Builder, call: LayerCall, layer: QuantActivation
) -> Table:
    (x,) = call.inputs
    codes, read = builder.read(x, layer, f'{call.name}.in')
    builder.codes[call.node] = (codes,)
    # Not the layer's grid: a ReLU in front may have left fewer codes.
    values = _values(layer, builder.op(codes).grid, float(read.step[0]))
    return Table(codes, builder.size_of(call.node), values)


@lowers(FixedPointActivation)
def lower_fixed_point(
    builder: Builder, call: LayerCall, layer: FixedPointActivation
) -> Affine:
    (x,), name = call.inputs, call.name
    codes, read = builder.read(x, layer, f'{name}.in')
    builder.codes[call.node] = (codes,)
    source, grid = builder.op(codes), program_grid(OUTPUT_GRID)
    step = real(layer.output_step())
    # A row for each step that there is.
    steps, rows = np.unique(read.step, return_inverse=True)
    # Not the layer's grid: a ReLU in front may have left fewer codes.
    first, end = (x - layer.grid.lo for x in source.grid.ends)
    tables = layer.table(torch.from_numpy(steps))[:, first : end + 1]
    op = ir.Lookup(
        name,
        (codes,),
        source.channels,
        grid,
        tables.flatten().numpy().astype(np.int32),
        source.grid.lo,
        tuple(map(int, rows)),
    )
    size = builder.size_of(call.node)
    return Affine(builder.emit(op, size), size, step, np.zeros(1))


def _values(layer: QuantActivation, grid: ir.Grid, step: float) -> np.ndarray:
    """Return the function of each code of a grid, float64."""
    codes = torch.arange(grid.lo, grid.hi + 1, dtype=torch.float64)
    with torch.no_grad():
        return layer.function(codes * step).numpy()
