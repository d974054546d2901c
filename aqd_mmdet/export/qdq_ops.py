"""Operators whose integers are computed with floats: docs/export.md.

Tensors are held as in the integer format. Here are the operators for which
runtimes have something faster than integers of 64 bits.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..program import ops as ir
from ..program.fixed_point import Multipliers
from . import onnx_ops, onnx_window_ops
from .onnx_graph import BYTES, INT32_ENDS, Graph, Tensor, integers, per_channel
from .onnx_window_ops import edges, window

FLOAT, DOUBLE = 'float32', 'float64'
# Integers up to these magnitudes are exact.
FLOAT_END, DOUBLE_END = 2**24, 2**53
# Of n borders some sum is nearer to one of them than an n-th of the distance
# between sums, however the bias is chosen: of more borders it gains nothing.
MOST_BORDERS = 2**12


def table_of(
    multipliers: Multipliers, channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return m, b and s of each channel, Python's integers (C,)."""
    m, b, s = (
        integers(part.tolist(), channels)
        for part in (multipliers.m, multipliers.b, multipliers.s)
    )
    return m, b, s


def requantize(
    graph: Graph, op: ir.Requantize, inputs: Sequence[Tensor]
) -> Tensor:
    """The contract's ``(a * m + b) >> s``, in float64.

    Both ``m`` and ``b`` are divided by ``2^s``, which costs no bit. So it is
    exact if products and sums have at most 53 bits; others are left to the
    integer format. The lowest code is taken off, so that nothing is negative
    and Cast, which rounds towards zero, floors.

    Borders between codes are moved off the numbers, since some runtimes
    compute doubles as float32 (OpenVINO).
    """
    (x,) = inputs
    m, b, s = table_of(op.multipliers, op.channels)
    step = 2**s
    b = b + x.offset * m
    ends = x.low * m, x.high * m
    least, largest = np.minimum(*ends) + b, np.maximum(*ends) + b
    change = centring(m, b, step, (least // step, largest // step), op.grid)
    b, least, largest = (each + change for each in (b, least, largest))
    first = op.grid.lo
    is_whole = len(op.grid) > INT32_ENDS[1]
    if is_whole:
        # What is above the lowest code may not fit int32; above the least
        # number that there is, it mostly does.
        low, high = (
            int(np.clip(end, *op.grid.ends))
            for end in ((least // step).min(), (largest // step).max())
        )
        is_whole = high - low > INT32_ENDS[1]
        first = 0 if is_whole else low
    b, least, largest = (each - first * step for each in (b, least, largest))
    numbers = np.abs(np.concatenate([*ends, b, least, largest]))
    if numbers.max() > DOUBLE_END:
        return onnx_ops.requantize(graph, op, inputs)
    name = graph.cast(x.name, DOUBLE)
    if (m != step).any():
        ratio = (m / step).astype(DOUBLE)
        name = graph.node('Mul', name, per_channel(ratio, DOUBLE))
    if b.any():
        addend = (b / step).astype(DOUBLE)
        name = graph.node('Add', name, per_channel(addend, DOUBLE))
    if is_whole:
        name = graph.node('Floor', name)
    return held(
        graph, name, op.grid, first, (least // step, largest // step), DOUBLE
    )


def centring(
    m: np.ndarray,
    b: np.ndarray,
    step: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    grid: ir.Grid,
) -> np.ndarray:
    """Return what may be added to biases without another code, (C,).

    Sums are whole numbers, so that those of a channel are ``|m|`` apart. With
    it, the nearest one to a border between two codes is as far below it as
    the nearest one to another border is above.

    Args:
        m, b: Of each channel, Python's integers (C,); products and sums fit
            int64.
        step: What a code is worth, (C,).
        ends: Smallest and largest code that there is, (C,).
        grid: The limit; of a grid of many codes some border is always near.
    """
    found = 0 * b
    for channel, (low, high) in enumerate(zip(*ends, strict=True)):
        # With those below and above all numbers, which must not be crossed.
        borders = range(max(grid.lo + 1, low), min(grid.hi, high + 1) + 1)
        apart = abs(m[channel])
        if not apart:
            # All numbers are one, which comes to lie between two borders.
            found[channel] = step[channel] // 2 - b[channel] % step[channel]
            continue
        if not 0 < len(borders) <= MOST_BORDERS:
            continue
        values = np.array(borders, np.int64) * int(step[channel])
        above = (int(b[channel]) - values) % int(apart)
        found[channel] = (apart - int(above.max()) - int(above.min())) // 2
    return found


def held(
    graph: Graph,
    name: str,
    grid: ir.Grid,
    first: int,
    ends: tuple[np.ndarray, np.ndarray],
    dtype: str,
) -> Tensor:
    """Return floats as codes, limited to a grid.

    Args:
        graph: The graph.
        name: Of the floats: codes less ``first``, which Cast may round.
        grid: The grid.
        first: The code that 0 stands for.
        ends: Smallest and largest of them, Python's integers (C,).
        dtype: Of the floats.
    """
    low, high = grid.lo - first, grid.hi - first
    if ends[0].min() < low or ends[1].max() > high:
        # Half a code above the highest, since OpenVINO's limit is not exact.
        most = high + 0.5 if high >= 0 else high
        limits = (np.array(end, dtype) for end in (low, most))
        name = graph.node('Clip', name, *limits)
    kind = 'uint8' if len(grid) <= BYTES else 'int32'
    return Tensor(
        graph.cast(name, kind), kind, integers(first, len(ends[0])),
        *(end.clip(low, high) for end in ends),
    )  # fmt: skip


def zero_point(lowest: int) -> int:
    """Return the byte that stands for 0, or the one next to it.

    Args:
        lowest: The code that the byte 0 holds.
    """
    return min(max(-lowest, 0), BYTES - 1)


def origin(grid: ir.Grid) -> int:
    """Return the code of the real value 0 of a grid's QuantizeLinear."""
    return grid.lo + zero_point(grid.lo)


def bytes_of(graph: Graph, name: str, grid: ir.Grid, channels: int) -> Tensor:
    """Return floats, less :func:`origin`, as the codes of a grid."""
    zero = np.array(zero_point(grid.lo), np.uint8)
    name = graph.node('QuantizeLinear', name, np.array(1, FLOAT), zero)
    return from_lowest(graph, name, grid, channels)


def from_lowest(
    graph: Graph, name: str, grid: ir.Grid, channels: int
) -> Tensor:
    """Return any bytes from a grid's lowest code on, limited to the grid."""
    none = integers(0, channels)
    held = Tensor(name, 'uint8', none + grid.lo, none, none + BYTES - 1)
    return graph.clamped(held, grid)


def max_pool(graph: Graph, op: ir.MaxPool, inputs: Sequence[Tensor]) -> Tensor:
    """MaxPool of floats behind a border of the lowest code.

    ONNX Runtime needs several times as long for one of bytes.
    """
    (x,) = inputs
    largest = max(-x.low.min(), x.high.max())
    if largest > FLOAT_END or op.dilation != (1, 1):
        return onnx_window_ops.max_pool(graph, op, inputs)
    name = graph.cast(x.name, FLOAT)
    if any(op.padding):
        # A window without holes always sees more than the border.
        border = np.array(x.low.min(), FLOAT)
        name = graph.node('Pad', name, edges(op.padding), border)
    name = graph.node('MaxPool', name, **window(op, False))
    return replace(x, name=graph.cast(name, x.dtype))


def group_norm(
    graph: Graph, op: ir.GroupNorm, inputs: Sequence[Tensor]
) -> Tensor:
    """InstanceNormalization of groups, floored to the program's steps."""
    x = graph.codes(inputs[0])
    values = graph.cast(x.name, FLOAT)
    groups = graph.node('Reshape', values, np.array([0, op.groups, -1]))
    ones = np.ones(op.groups, np.float32)
    name = graph.node(
        'InstanceNormalization', groups, ones, 0 * ones,
        epsilon=op.epsilon * 2.0**-ir.MOMENT_BITS,
    )  # fmt: skip
    name = graph.node('Reshape', name, graph.size(x.name, 0, 4))
    name = graph.node('Mul', name, np.array(2**ir.NORM_BITS, FLOAT))
    name = graph.node('Floor', graph.node('Add', name, np.array(0.5, FLOAT)))
    none = integers(0, op.channels)
    # Codes of 16 bits, less the lowest, are exact.
    first = op.grid.lo if len(op.grid) <= BYTES else 0
    if first:
        name = graph.node('Sub', name, np.array(first, FLOAT))
    ends = none - 2**62, none + 2**62
    return held(graph, name, op.grid, first, ends, FLOAT)


def lookup(graph: Graph, op: ir.Lookup, inputs: Sequence[Tensor]) -> Tensor:
    """GatherElements of a table, by code and row.

    It needs a tenth of the time of Gather in ONNX Runtime.
    """
    index, table = onnx_ops.lookup_parts(graph, op, inputs[0])
    shape = graph.size(index, 0, 4)
    flat = graph.node('Reshape', index, np.array([-1]))
    name = graph.node('GatherElements', table.name, flat, axis=0)
    name = graph.node('Reshape', name, shape)
    return Tensor(name, table.dtype, table.offset, table.low, table.high)
