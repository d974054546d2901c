"""Operators with QuantizeLinear and DequantizeLinear: docs/export.md.

The real value of a code is the code itself: every tensor has the step 1. What
turns sums into the next codes, a Requantize's ``m / 2^s``, is the scale of
the weights, or of a DequantizeLinear. Multipliers of 24 bits are exact as
float32.

Tensors of at most 256 codes are bytes; others that a Requantize or an Add
makes are whole numbers as float32. Operators that compute with integers alone
are translated as in the integer format; they are given floats as int32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from ..program import ops as ir
from ..program.fixed_point import Multipliers
from . import onnx_movement_ops, onnx_window_ops
from .onnx_graph import BYTES, Graph, Tensor, integers, per_channel
from .onnx_window_ops import edges, window

FLOAT = 'float32'


@dataclass(frozen=True)
class Floats:
    """Floats, and what is added to get real values.

    Attributes:
        name: In the graph.
        addend: float64 (C,).
        low: Smallest real value of each channel, float64 (C,).
        high: Largest one.
    """

    name: str
    addend: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Ratios:
    """A Requantize in real numbers: codes ``round(a * ratio + addend)``.

    Attributes:
        ratio: float64 (C,).
        addend: float64 (C,).
        half: Half a code, or 0 without a shift, float64 (C,); with it, the
            codes are floored.
    """

    ratio: np.ndarray
    addend: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, table: Multipliers, channels: int) -> 'Ratios':
        """Return those of multipliers."""
        m, b, s = (
            integers(part.tolist(), channels)
            for part in (table.m, table.b, table.s)
        )
        step = 2**s
        half = step // 2
        return cls(
            *((part / step).astype(float) for part in (m, b - half, half))
        )


def zero_point(lowest: int) -> int:
    """Return the byte that stands for 0, or the one next to it.

    Args:
        lowest: The code that the byte 0 holds.
    """
    return min(max(-lowest, 0), BYTES - 1)


def dequantised(graph: Graph, x: Tensor, ratio: np.ndarray) -> Floats:
    """Return a tensor's codes times numbers of the channels.

    Args:
        graph: The graph.
        x: Bytes, int32 or floats.
        ratio: The numbers, float64 (C,).
    """
    same = bool((ratio == ratio[0]).all())
    # Activations have one positive scale; int32 may have one of each channel.
    in_scale = (ratio > 0).all() and (same or x.dtype == 'int32')
    scale = ratio if in_scale else np.ones(1)
    scale = np.array(scale[0] if same or not in_scale else scale, FLOAT)
    zero = 0
    if x.dtype == FLOAT:
        name = x.name
    elif x.dtype == 'uint8':
        zero = zero_point(int(x.offset[0]))
        name = graph.node(
            'DequantizeLinear', x.name, scale, np.array(zero, np.uint8)
        )
    else:
        name = graph.node('DequantizeLinear', x.name, scale)
    if (x.dtype == FLOAT or not in_scale) and (ratio != 1).any():
        name = graph.node('Mul', name, per_channel(ratio, FLOAT))
    addend = ratio * (x.offset + zero).astype(float)
    ends = [ratio * (end + x.offset).astype(float) for end in (x.low, x.high)]
    return Floats(name, addend, np.minimum(*ends), np.maximum(*ends))


def added(graph: Graph, name: str, addend: np.ndarray) -> str:
    """Add numbers of the channels, float64 (C,), if they are not all 0."""
    if not addend.any():
        return name
    return graph.node('Add', name, per_channel(addend, FLOAT))


def bytes_of(graph: Graph, name: str, grid: ir.Grid, channels: int) -> Tensor:
    """Return floats, less :func:`origin`, as the codes of a grid."""
    zero = np.array(zero_point(grid.lo), np.uint8)
    name = graph.node('QuantizeLinear', name, np.array(1, FLOAT), zero)
    none = integers(0, channels)
    held = Tensor(name, 'uint8', none + grid.lo, none, none + BYTES - 1)
    return graph.clamped(held, grid)


def origin(grid: ir.Grid) -> int:
    """Return the code of the real value 0 of a grid's QuantizeLinear."""
    return grid.lo + zero_point(grid.lo)


def quantised(graph: Graph, x: Floats, grid: ir.Grid) -> Tensor:
    """Return real values as codes: bytes, or floats between a grid's ends."""
    channels = len(x.low)
    if len(grid) <= BYTES:
        name = added(graph, x.name, x.addend - origin(grid))
        return bytes_of(graph, name, grid, channels)
    name = added(graph, x.name, x.addend)
    if x.low.min() < grid.lo or x.high.max() > grid.hi:
        name = graph.node('Clip', name, *map(inner_float, grid.ends))
    low = [floor(each) for each in x.low.clip(*grid.ends)]
    high = [ceil(each) for each in x.high.clip(*grid.ends)]
    return Tensor(
        name, FLOAT, integers(0, channels), integers(low, channels),
        integers(high, channels),
    )  # fmt: skip


def inner_float(end: int) -> np.ndarray:
    """Return the float32 next to an integer that is not farther from 0."""
    value = np.float32(end)
    if abs(int(value)) > abs(end):
        value = np.nextafter(value, np.float32(0))
    return np.array(value)


def whole(graph: Graph, x: Tensor) -> Tensor:
    """Return a tensor as integers; floats are whole numbers."""
    if x.dtype != FLOAT:
        return x
    name = graph.cast(x.name, 'int32')
    return Tensor(name, 'int32', x.offset, x.low, x.high)


def of_integers(
    translate: Callable[[Graph, ir.Op, Sequence[Tensor]], Tensor],
) -> Callable[[Graph, ir.Op, Sequence[Tensor]], Tensor]:
    """Return the integer format's translation, for tensors of here."""

    def translation(
        graph: Graph, op: ir.Op, inputs: Sequence[Tensor]
    ) -> Tensor:
        return translate(graph, op, [whole(graph, x) for x in inputs])

    return translation


def requantize(
    graph: Graph, op: ir.Requantize, inputs: Sequence[Tensor]
) -> Tensor:
    """QuantizeLinear rounds bytes; Floor rounds other codes, as a shift."""
    is_bytes = len(op.grid) <= BYTES
    ratios = Ratios.of(op.multipliers, op.channels)
    x = dequantised(graph, inputs[0], ratios.ratio)
    addend = ratios.addend + (0 if is_bytes else ratios.half)
    ends = x.low + addend, x.high + addend
    x = Floats(x.name, x.addend + addend, *ends)
    if not is_bytes:
        name = graph.node('Floor', added(graph, x.name, x.addend))
        x = Floats(name, 0 * addend, *map(np.floor, ends))
    return quantised(graph, x, op.grid)


def add(graph: Graph, op: ir.Add, inputs: Sequence[Tensor]) -> Tensor:
    ones = np.ones(op.channels)
    x, y = (dequantised(graph, each, ones) for each in inputs)
    total = graph.node('Add', x.name, y.name)
    return quantised(
        graph,
        Floats(total, x.addend + y.addend, x.low + y.low, x.high + y.high),
        op.grid,
    )


def concatenate(
    graph: Graph, op: ir.Concatenate, inputs: Sequence[Tensor]
) -> Tensor:
    """All as floats if some are."""
    if any(x.dtype == FLOAT for x in inputs):
        inputs = [floats(graph, x) for x in inputs]
    return onnx_movement_ops.concatenate(graph, op, inputs)


def floats(graph: Graph, x: Tensor) -> Tensor:
    """Return a tensor's codes as floats."""
    values = dequantised(graph, x, np.ones(len(x.offset)))
    return quantised(graph, values, ir.INT32)


def max_pool(graph: Graph, op: ir.MaxPool, inputs: Sequence[Tensor]) -> Tensor:
    """MaxPool of floats behind a border of the lowest code."""
    (x,) = inputs
    if x.dtype != FLOAT:
        return onnx_window_ops.max_pool(graph, op, inputs)
    name, low = x.name, x.low
    if any(op.padding):
        border = np.array(op.grid.lo, FLOAT)
        name = graph.node('Pad', name, edges(op.padding), border)
        low = low.clip(None, op.grid.lo)
    name = graph.node('MaxPool', name, **window(op, False))
    return Tensor(name, FLOAT, x.offset, low, x.high)


def group_norm(
    graph: Graph, op: ir.GroupNorm, inputs: Sequence[Tensor]
) -> Tensor:
    """InstanceNormalization of groups, floored to the program's steps."""
    (x,) = inputs
    values = floats(graph, x).name
    groups = graph.node('Reshape', values, np.array([0, op.groups, -1]))
    ones = np.ones(op.groups, np.float32)
    name = graph.node(
        'InstanceNormalization', groups, ones, 0 * ones,
        epsilon=op.epsilon * 2.0**-ir.MOMENT_BITS,
    )  # fmt: skip
    name = graph.node('Reshape', name, graph.size(x.name, 0, 4))
    name = graph.node('Mul', name, np.array(2**ir.NORM_BITS, FLOAT))
    name = graph.node('Floor', graph.node('Add', name, np.array(0.5, FLOAT)))
    none = np.zeros(op.channels)
    ends = none - np.inf, none + np.inf
    return quantised(graph, Floats(name, none, *ends), op.grid)


def lookup(graph: Graph, op: ir.Lookup, inputs: Sequence[Tensor]) -> Tensor:
    """GatherElements of a table of bytes or floats, by code and row.

    It needs a tenth of the time of Gather in ONNX Runtime.
    """
    x = whole(graph, inputs[0])
    count = len(op.table) // (max(op.rows) + 1)
    starts = integers(op.rows, op.channels) * count - op.first
    index = graph.moved(x, -starts)
    is_bytes = len(op.grid) <= BYTES
    first = op.grid.lo if is_bytes else 0
    table = (op.table.astype(np.int64) - first).astype(
        'uint8' if is_bytes else FLOAT
    )
    constant = graph.constant(table, f'{op.output}/table')
    shape = graph.size(index.name, 0, 4)
    flat = graph.node('Reshape', index.name, np.array([-1]))
    name = graph.node('GatherElements', constant, flat, axis=0)
    name = graph.node('Reshape', name, shape)
    offset, low, high = (
        integers(int(each), op.channels)
        for each in (first, table.min(), table.max())
    )
    return Tensor(name, str(table.dtype), offset, low, high)
