"""Activations that are no clamp: tables."""

import torch

from ...layers.activation import QuantActivation
from ..builder import Builder
from ..graph import LayerCall
from ..values import Table, TracedSize
from .rules import lowers


@lowers(QuantActivation)
def lower_activation(
    builder: Builder, call: LayerCall, layer: QuantActivation
) -> Table:
    (x,) = call.inputs
    codes, step = builder.read(x, layer, f'{call.name}.in')
    builder.codes[call.node] = (codes,)
    # Not the layer's grid: a ReLU in front may have left fewer codes.
    grid = builder.op(codes).grid
    arguments = torch.arange(grid.lo, grid.hi + 1, dtype=torch.float64) * step
    with torch.no_grad():
        values = layer.function(arguments).numpy()
    return Table(codes, TracedSize.of(call.node), values)
