"""Activations that are no clamp: tables."""

import numpy as np
import torch

from ...layers.activation import FixedPointActivation, QuantActivation
from ...program import ops as ir
from ..builder import Builder, Scale
from ..graph import LayerCall
from ..values import Affine, Table, TracedSize
from .rules import lowers


@lowers(QuantActivation)
def lower_activation(
    builder: Builder, call: LayerCall, layer: QuantActivation
) -> Table:
    (x,) = call.inputs
    codes, _ = builder.read(x, layer, f'{call.name}.in')
    builder.codes[call.node] = (codes,)
    # Not the layer's grid: a ReLU in front may have left fewer codes.
    values = _values(layer, builder.op(codes).grid)
    return Table(codes, TracedSize.of(call.node), values)


@lowers(FixedPointActivation)
def lower_fixed_point(
    builder: Builder, call: LayerCall, layer: FixedPointActivation
) -> Affine:
    (x,), name = call.inputs, call.name
    codes, _ = builder.read(x, layer, f'{name}.in')
    builder.codes[call.node] = (codes,)
    source, output = builder.op(codes), Scale.of(layer.output_quantizer)
    table = np.floor(_values(layer, source.grid) / output.step + 0.5)
    op = ir.Lookup(
        name,
        (codes,),
        source.channels,
        output.grid,
        np.clip(table, *output.grid.ends).astype(np.int32),
        source.grid.lo,
    )
    size = TracedSize.of(call.node)
    return Affine(builder.emit(op, size), size, output.step, np.zeros(1))


def _values(
    layer: QuantActivation | FixedPointActivation, grid: ir.Grid
) -> np.ndarray:
    """Return the function of each code of a grid, float64."""
    codes = torch.arange(grid.lo, grid.hi + 1, dtype=torch.float64)
    with torch.no_grad():
        return layer.function(codes * float(layer.step)).numpy()
