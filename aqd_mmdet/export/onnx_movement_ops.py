"""Operators that move codes as nodes of ONNX."""

from collections.abc import Sequence

import numpy as np

from ..program import ops as ir
from .onnx_graph import LAST, Graph, Tensor


def upsample(
    graph: Graph, op: ir.Upsample, inputs: Sequence[Tensor]
) -> Tensor:
    """Rows and columns by their indices; Resize finds them with floats."""
    x, like = inputs
    name = x.name
    for axis in (2, 3):
        before, after = (
            graph.node('Squeeze', graph.size(y.name, axis, axis + 1))
            for y in (x, like)
        )
        index = graph.node('Range', np.array(0), after, np.array(1))
        index = graph.node('Div', graph.node('Mul', index, before), after)
        name = graph.node('Gather', name, index, axis=axis)
    return Tensor(name, x.dtype, x.offset, x.low, x.high)


def concatenate(
    graph: Graph, op: ir.Concatenate, inputs: Sequence[Tensor]
) -> Tensor:
    """All as bytes, or all as codes."""
    if any(x.dtype != 'uint8' for x in inputs):
        inputs = [graph.codes(x) for x in inputs]
    name = graph.node('Concat', *(x.name for x in inputs), axis=1)
    offset, low, high = (
        np.concatenate([getattr(x, key) for x in inputs])
        for key in ('offset', 'low', 'high')
    )
    return Tensor(name, inputs[0].dtype, offset, low, high)


def slice_(graph: Graph, op: ir.Slice, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    last = op.first + op.channels
    name = graph.node(
        'Slice', x.name, np.array([op.first, *op.offset]),
        np.array([last, LAST, LAST]), np.array([1, 2, 3]),
        np.array([1, *op.step]),
    )  # fmt: skip
    part = slice(op.first, last)
    return Tensor(name, x.dtype, x.offset[part], x.low[part], x.high[part])
