"""Operators of arithmetic as nodes of ONNX."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..program import ops as ir
from ..program.limits import expect
from .onnx_graph import (
    BYTES,
    Graph,
    Tensor,
    integers,
    per_channel,
    type_for,
)

MAX_INT64 = 2**63 - 1
# Newton's steps to a root of 31 bits, from 2^31 and at most twice the root:
# the error is 1, then 1/4, 1/40, 2^-11, 2^-24 and 2^-49 of it or less, so
# that it is below 1 after the fifth.
ROOT_STEPS = 5


def int64(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def image(graph: Graph, op: ir.Image, inputs: Sequence[Tensor]) -> Tensor:
    """The pixels as they are; the means are offsets."""
    (x,) = inputs
    return Tensor(
        x.name, x.dtype, -integers(op.mean, op.channels), x.low, x.high
    )


def requantize(
    graph: Graph, op: ir.Requantize, inputs: Sequence[Tensor]
) -> Tensor:
    """The contract's ``(a * m + b) >> s``, in int64.

    There is no shift of signed numbers. So a multiple ``q * 2^s`` is added to
    ``b``, the least one with which no sum is negative, and ``q`` is taken off
    behind the shift. What is held is ``a`` minus an offset; ``b`` has that,
    too.

    Of a value from ``low`` to ``high`` the sum is then 0 at least, and below
    ``(high - low) * |m| + 2^s`` at most. The product and ``b`` fit int64 by
    section 4 of the contract; the sum is asked for below.
    """
    (x,) = inputs
    m, b, s = (
        integers(part.tolist(), op.channels)
        for part in (op.multipliers.m, op.multipliers.b, op.multipliers.s)
    )
    step = 2**s
    b = b + x.offset * m
    ends = x.low * m, x.high * m
    least, largest = np.minimum(*ends) + b, np.maximum(*ends) + b
    q = -(least // step)
    sums = largest + q * step
    expect(
        sums.max() <= MAX_INT64,
        op.where,
        'products that fit 63 bits when all are made positive, for an export '
        'to ONNX; compile it with narrower multipliers',
        f'values up to {sums.max()}',
    )
    wide = graph.converted(x, 'int64')
    wide = graph.node('Mul', wide, per_channel(m, 'int64'))
    wide = graph.node('Add', wide, per_channel(b + q * step, 'int64'))
    shifted = graph.shift_right(wide, per_channel(s, 'uint64'))
    low, high = 0 * sums, sums // step
    dtype = type_for(low, high)
    name = graph.cast(shifted, dtype)
    return graph.clamped(Tensor(name, dtype, -q, low, high), op.grid)


def add(graph: Graph, op: ir.Add, inputs: Sequence[Tensor]) -> Tensor:
    x, y = inputs
    low, high = x.low + y.low, x.high + y.high
    dtype = type_for(x.low, x.high, y.low, y.high, low, high)
    total = graph.node('Add', *(graph.converted(z, dtype) for z in inputs))
    return graph.clamped(
        Tensor(total, dtype, x.offset + y.offset, low, high), op.grid
    )


def multiply(
    graph: Graph, op: ir.Multiply, inputs: Sequence[Tensor]
) -> Tensor:
    x, y = (graph.codes(each) for each in inputs)
    ends = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    product = graph.node('Mul', x.name, y.name)
    return graph.clamped(
        Tensor(product, 'int32', x.offset, low, high), op.grid
    )


def raised(graph: Graph, x: Tensor) -> tuple[str, int]:
    """Return values of int64 from 0, and what is added to get those held.

    Quotients of them are floored, which ONNX's of negative numbers are not.
    """
    first = x.low.min()
    wide = graph.converted(x, 'int64')
    return (graph.node('Sub', wide, int64(first)) if first else wide), first


def mean(graph: Graph, op: ir.Mean, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    values, first = raised(graph, x)
    total = graph.node('ReduceSum', values, np.array([2, 3]), keepdims=1)
    count = graph.node('ReduceProd', graph.size(x.name, 2, 4), keepdims=0)
    unit = 2**ir.MEAN_BITS
    twice = graph.node('Mul', total, int64(2 * unit))
    twice = graph.node('Add', twice, count)
    double = graph.node('Mul', count, int64(2))
    average = graph.node('Div', twice, double)
    offset = (x.offset + first) * unit
    low, high = ((end - first) * unit for end in (x.low, x.high))
    return graph.clamped(Tensor(average, 'int64', offset, low, high), op.grid)


def group_norm(
    graph: Graph, op: ir.GroupNorm, inputs: Sequence[Tensor]
) -> Tensor:
    """The steps and names of the contract, section 3."""
    unit = int64(2**ir.MOMENT_BITS)
    values, _ = raised(graph, graph.codes(inputs[0]))
    x = graph.node('Reshape', values, np.array([0, op.groups, -1]))
    n = graph.size(x, 2, 3)
    axis = np.array([2])
    total = graph.node('ReduceSum', x, axis, keepdims=1)
    whole = graph.node('Div', total, n)
    rest = graph.node('Mod', total, n)
    deviations = graph.node('Sub', x, whole)
    squares = graph.node('Mul', deviations, deviations)
    squares = graph.node('ReduceSum', squares, axis, keepdims=1)
    average = graph.node('Div', graph.node('Mul', rest, unit), n)
    reciprocal, shift = reciprocal_root(
        graph, variance(graph, op, squares, average, n)
    )
    wide = graph.node('Mul', deviations, unit)
    wide = graph.node('Sub', wide, average)
    wide = graph.node('Mul', wide, reciprocal)
    half = graph.node('Div', shift, int64(2))
    wide = graph.node('Add', wide, half)
    # The sum has no bits left for what would make it positive, and the shift
    # is not a constant.
    codes = graph.floored(wide, shift)
    codes = graph.node('Reshape', codes, graph.size(inputs[0].name, 0, 4))
    none = integers(0, op.channels)
    ends = (none - 2**62, none + 2**62)
    return graph.clamped(Tensor(codes, 'int64', none, *ends), op.grid)


def variance(
    graph: Graph, op: ir.GroupNorm, squares: str, average: str, n: str
) -> str:
    """Return the contract's ``v`` of each group, (N, groups, 1)."""
    unit = int64(2**ir.MOMENT_BITS)
    whole = graph.node('Mul', graph.node('Div', squares, n), unit)
    rest = graph.node('Mul', graph.node('Mod', squares, n), unit)
    v = graph.node('Add', whole, graph.node('Div', rest, n))
    square = graph.node('Mul', average, average)
    v = graph.node('Sub', v, graph.node('Div', square, unit))
    return graph.node('Add', v, int64(op.epsilon))


def reciprocal_root(graph: Graph, v: str) -> tuple[str, str]:
    """Return the contract's ``r`` and ``2^k`` of a variance."""
    root, scale = scaled_root(graph, v)
    reciprocal = graph.node('Div', int64(2**60), root)
    return reciprocal, graph.node('Div', int64(2**56), scale)


def scaled_root(graph: Graph, v: str) -> tuple[str, str]:
    """Return the floored root of ``v * 4^e`` and ``2^e``.

    The number ``e`` is the largest with which the product is below 2^62, up
    to 31, for ``v`` from 1 to 2^49.
    """
    scale = graph.constant(int64(1))
    for step in (16, 8, 4, 2, 1):
        fits = graph.node('Less', v, int64(2 ** (62 - 2 * step)))
        factor = graph.node('Where', fits, int64(2**step), int64(1))
        v = graph.node('Mul', graph.node('Mul', v, factor), factor)
        scale = graph.node('Mul', scale, factor)
    # Newton's steps from above never fall below the floored root.
    root = graph.constant(int64(2**31))
    for _ in range(ROOT_STEPS):
        root = graph.node('Add', root, graph.node('Div', v, root))
        root = graph.node('Div', root, int64(2))
    above = graph.node('Greater', graph.node('Mul', root, root), v)
    return graph.node('Sub', root, graph.cast(above, 'int64')), scale


def lookup(graph: Graph, op: ir.Lookup, inputs: Sequence[Tensor]) -> Tensor:
    """Gather of a table, by code and row.

    GatherElements is several times as fast in ONNX Runtime, but ONNX's own
    evaluator reads no tables of more than 64 numbers with it.
    """
    index, table = lookup_parts(graph, op, inputs[0])
    return replace(table, name=graph.node('Gather', table.name, index))


def lookup_parts(graph: Graph, op: ir.Lookup, x: Tensor) -> tuple[str, Tensor]:
    """Return the places of codes in a table, and the table.

    The table is one of numbers, (rows * codes,); what else there is of the
    tensor is that of what is read from it.
    """
    count = len(op.table) // (max(op.rows) + 1)
    starts = integers(op.rows, op.channels) * count - op.first
    index = graph.moved(x, -starts)
    is_bytes = len(op.grid) <= BYTES
    first = op.grid.lo if is_bytes else 0
    table = op.table.astype(np.int64) - first
    dtype = 'uint8' if is_bytes else 'int32'
    name = graph.constant(table.astype(dtype), f'{op.output}/table')
    offset, low, high = (
        integers(each, op.channels)
        for each in (first, int(table.min()), int(table.max()))
    )
    return index.name, Tensor(name, dtype, offset, low, high)
