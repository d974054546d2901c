"""Operators in the terms of QONNX: docs/export.md."""

from collections.abc import Sequence

import numpy as np

from ..program import ops as ir
from . import onnx_movement_ops, onnx_ops, onnx_window_ops
from .onnx_graph import BYTES, Graph, Tensor, integers, per_channel
from .onnx_window_ops import edges, held_zero, window
from .qdq_ops import FLOAT
from .qonnx_graph import by_integers, is_held, limited, quant, tensor, width_of
from .qonnx_requantize import Signs


def image(graph: Graph, op: ir.Image, inputs: Sequence[Tensor]) -> Tensor:
    """The pixels are floats already."""
    (x,) = inputs
    mean = integers(op.mean, op.channels)
    low, high = x.low - mean, x.high - mean
    if not mean.any():
        return tensor(x.name, low, high)
    name = graph.node('Sub', x.name, per_channel(mean, FLOAT))
    width = width_of(ir.Grid(int(low.min()), int(high.max())))
    return tensor(quant(graph, name, width), low, high)


def signs_of(program: ir.Program) -> dict[str, np.ndarray]:
    """Return signs of channels with which no multiplier is negative.

    Only convolutions have some that are read by a Requantize, or by several
    of the same signs, and by nothing else.
    """
    readers = program.readers()
    signs = {}
    for op in program.ops:
        if not isinstance(op, ir.Convolution):
            continue
        found = [
            np.where(each.multipliers.m < 0, -1, 1)
            for each in readers[op.output]
            if isinstance(each, ir.Requantize)
        ]
        is_read_alone = 0 < len(found) == len(readers[op.output])
        if is_read_alone and all(np.array_equal(x, found[0]) for x in found):
            signs[op.output] = np.broadcast_to(found[0], (op.channels,))
    return signs


def convolution(
    graph: Graph, op: ir.Convolution, inputs: Sequence[Tensor], signs: Signs
) -> Tensor:
    """A Conv of floats, if no part of a sum can be beyond what they hold.

    Others are ConvInteger, without signs.
    """
    (x,) = inputs
    codes = graph.weights[op.weights].codes
    sign = signs.get(op.output)
    if sign is not None:
        codes = codes * sign.astype(np.int8)[:, None, None, None]
    low, high = sums_of(op, x, codes)
    if x.dtype != FLOAT or not is_held(low, high):
        return onnx_window_ops.convolution(graph, op, [as_bytes(graph, x)])
    zero = held_zero(op, x)
    values = x.name
    if zero.any():
        values = graph.node('Sub', values, per_channel(zero, FLOAT))
    held = graph.constant(codes.astype(FLOAT), f'{op.weights}/weights')
    largest = int(np.abs(codes).max())
    # FINN wants a Quant of its own for each reader.
    weights = quant(
        graph, held, width_of(ir.Grid(-largest, largest)),
        graph.unique(f'{op.weights}/weights/Quant'),
    )  # fmt: skip
    name = graph.node('Conv', values, weights, group=op.groups, **window(op))
    return tensor(name, low, high)


def as_bytes(graph: Graph, x: Tensor) -> Tensor:
    """Return codes as bytes if they are some, for ConvInteger."""
    if x.dtype != FLOAT or x.low.min() < 0 or x.high.max() >= BYTES:
        return x
    name = graph.cast(x.name, 'uint8')
    return Tensor(name, 'uint8', x.offset, x.low, x.high)


def sums_of(
    op: ir.Convolution, x: Tensor, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of all sums, and of all parts of them, integers (O,).

    Args:
        op: The convolution.
        x: What it reads.
        codes: Its weights, with signs.
    """
    zero = held_zero(op, x)
    group = np.arange(op.channels) // (op.channels // op.groups)
    ends = [
        (end - zero).reshape(op.groups, -1)[group].astype(np.int64)
        for end in (x.low, x.high)
    ]
    products = [codes * end[:, :, None, None] for end in ends]
    low = np.minimum(np.minimum(*products), 0).sum((1, 2, 3))
    high = np.maximum(np.maximum(*products), 0).sum((1, 2, 3))
    return low.astype(object), high.astype(object)


def max_pool(graph: Graph, op: ir.MaxPool, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    if x.dtype != FLOAT:
        return onnx_window_ops.max_pool(graph, op, inputs)
    # A window without holes always sees more than the border.
    if op.dilation == (1, 1):
        name = graph.node('MaxPool', x.name, **window(op))
        return tensor(name, x.low, x.high)
    lowest = np.array(op.grid.lo, FLOAT)
    name = graph.node('Pad', x.name, edges(op.padding), lowest)
    name = graph.node('MaxPool', name, **window(op, False))
    return tensor(name, x.low.clip(None, op.grid.lo), x.high)


def add(graph: Graph, op: ir.Add, inputs: Sequence[Tensor]) -> Tensor:
    x, y = inputs
    low, high = x.low + y.low, x.high + y.high
    if {x.dtype, y.dtype} != {FLOAT} or not is_held(low, high):
        return by_integers(onnx_ops.add)(graph, op, inputs)
    name = graph.node('Add', x.name, y.name)
    if op.grid.lo <= low.min() and high.max() <= op.grid.hi:
        return tensor(name, low, high)
    ends = (end.clip(*op.grid.ends) for end in (low, high))
    return tensor(limited(graph, name, op.grid), *ends)


def multiply(
    graph: Graph, op: ir.Multiply, inputs: Sequence[Tensor]
) -> Tensor:
    x, y = inputs
    ends = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    if {x.dtype, y.dtype} != {FLOAT} or not is_held(low, high):
        return by_integers(onnx_ops.multiply)(graph, op, inputs)
    return tensor(graph.node('Mul', x.name, y.name), low, high)


def upsample(
    graph: Graph, op: ir.Upsample, inputs: Sequence[Tensor], sizes: ir.Sizes
) -> Tensor:
    """Resize by whole numbers, which is exact; rows and columns otherwise."""
    (x, _), name = inputs, inputs[0].name
    before, after = sizes[op.inputs[0]], sizes[op.output]
    pairs = list(zip(before, after, strict=True))
    if all(new % old == 0 for old, new in pairs):
        scales = np.array([1, 1, *(new / old for old, new in pairs)], FLOAT)
        name = graph.node(
            'Resize', name, '', scales, mode='nearest',
            coordinate_transformation_mode='asymmetric', nearest_mode='floor',
        )  # fmt: skip
    else:
        for axis, (old, new) in enumerate(pairs):
            index = np.arange(new) * old // new
            name = graph.node('Gather', name, index, axis=2 + axis)
    return Tensor(name, x.dtype, x.offset, x.low, x.high)


def concatenate(
    graph: Graph, op: ir.Concatenate, inputs: Sequence[Tensor]
) -> Tensor:
    if {x.dtype for x in inputs} != {FLOAT}:
        return by_integers(onnx_movement_ops.concatenate)(graph, op, inputs)
    name = graph.node('Concat', *(x.name for x in inputs), axis=1)
    ends = (
        np.concatenate([getattr(x, key) for x in inputs])
        for key in ('low', 'high')
    )
    return tensor(name, *ends)
