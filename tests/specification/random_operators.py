"""Operators of random parameters, with inputs of which many are extreme."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from tests.operators import GRIDS, program_of

Rng = np.random.Generator
Made = tuple[ir.Op, list[np.ndarray], dict[str, ir.Weights]]
TYPES = (np.uint8, np.int8, np.int16)


def random_operator(kind: str, seed: int) -> tuple[ir.Program, np.ndarray]:
    """A program of a second stage for one operator, and what it is given.

    Args:
        kind: Of the operator.
        seed: Of all that is random.
    """
    op, inputs, weights = MAKERS[kind](np.random.default_rng(seed))
    program, values = program_of(op, inputs, weights)
    # With its own grid, which `program_of` may have made wider.
    return replace(program, ops=(*program.ops[:-1], op)), values


def numbers(rng: Rng, shape: tuple[int, ...], lo: int, hi: int) -> np.ndarray:
    """Numbers of which about a half are the lowest or the highest."""
    drawn = rng.integers(lo, hi, shape, np.int64, endpoint=True)
    return np.where(
        rng.random(shape) < 0.5, drawn, rng.choice([lo, hi], shape)
    )


def codes(rng: Rng, *shape: int) -> np.ndarray:
    """Codes of a batch of two, of a random type."""
    dtype = rng.choice(TYPES)
    info = np.iinfo(dtype)
    return numbers(rng, (2, *shape), info.min, info.max).astype(dtype)


def pair(rng: Rng, low: int, high: int) -> tuple[int, int]:
    rows, columns = rng.integers(low, high, 2, endpoint=True).tolist()
    return rows, columns


def grid(rng: Rng) -> ir.Grid:
    low, high = rng.choice(GRIDS).tolist()
    return ir.Grid(low, high)


def grid_of(x: np.ndarray, bits: int = 0) -> ir.Grid:
    """What codes of a type become in units of `2^-bits`."""
    info = np.iinfo(x.dtype)
    return ir.Grid(int(info.min) << bits, int(info.max) << bits)


def reach(kernel: ir.Size, dilation: ir.Size) -> ir.Size:
    """Rows and columns from the first to the last tap of a window."""
    rows, columns = (
        d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)
    )
    return rows, columns


def sizes(rng: Rng, window: ir.Size, padding: ir.Size) -> ir.Size:
    """A size of maps in which a window has a place."""
    rows, columns = (
        max(1, w - 2 * p) + int(rng.integers(0, 5))
        for w, p in zip(window, padding, strict=True)
    )
    return rows, columns


def convolution(rng: Rng) -> Made:
    groups, ins, outs = rng.integers(1, 5, 3).tolist()
    kernel, dilation, stride = (pair(rng, 1, 3) for _ in range(3))
    padding = pair(rng, 0, 3)
    size = sizes(rng, reach(kernel, dilation), padding)
    bits = int(rng.integers(2, 9))
    shape = (groups * outs, ins, *kernel)
    if bits == 8:
        weights = numbers(rng, shape, -127, 127)
    else:
        weights = 2 * numbers(rng, shape, 0, 2**bits - 1) + 1 - 2**bits
    x = codes(rng, groups * ins, *size)
    info, count = np.iinfo(x.dtype), int(rng.choice([1, groups * ins]))
    zero = numbers(rng, (count,), info.min, info.max)
    if rng.random() < 0.5:
        zero = np.zeros(1, int)
    op = ir.Convolution(
        'y', ('x',), groups * outs, ir.INT32, kernel, stride, padding,
        dilation, 'w', groups, tuple(zero.tolist()),
    )  # fmt: skip
    return op, [x], {'w': ir.Weights.of(weights, bits)}


def max_pool(rng: Rng) -> Made:
    kernel, dilation, stride = (pair(rng, 1, 3) for _ in range(3))
    window = reach(kernel, dilation)
    padding = tuple(int(rng.integers(0, w // 2 + 1)) for w in window)
    size = sizes(rng, window, padding)
    x = codes(rng, 2, *size)
    op = ir.MaxPool(
        'y', ('x',), 2, grid_of(x), kernel, stride, padding, dilation
    )
    return op, [x], {}


def requantize(rng: Rng) -> Made:
    channels = int(rng.integers(1, 20))
    count = int(rng.choice([1, channels]))
    table = Multipliers(
        numbers(rng, (count,), -(2**24), 2**24).astype(np.int32),
        numbers(rng, (count,), -(2**61), 2**61),
        numbers(rng, (count,), 0, 47).astype(np.uint8),
    )
    most = 2**31 - 1
    x = numbers(rng, (2, channels, *pair(rng, 1, 5)), -most, most)
    op = ir.Requantize('y', ('x',), channels, grid(rng), table)
    return op, [x.astype(np.int32)], {}


def add(rng: Rng) -> Made:
    shape = (3, *pair(rng, 1, 5))
    op = ir.Add('z', ('x', 'y'), 3, grid(rng))
    return op, [codes(rng, *shape), codes(rng, *shape)], {}


def multiply(rng: Rng) -> Made:
    size = pair(rng, 1, 5)
    other = (1, 1) if rng.random() < 0.5 else size
    op = ir.Multiply('z', ('x', 'y'), 3, ir.INT32)
    return op, [codes(rng, 3, *size), codes(rng, 3, *other)], {}


def mean(rng: Rng) -> Made:
    x = codes(rng, 2, *pair(rng, 1, 9))
    return ir.Mean('y', ('x',), 2, grid_of(x, 8)), [x], {}


def group_norm(rng: Rng) -> Made:
    groups, each = rng.integers(1, 4, 2).tolist()
    x = codes(rng, groups * each, *pair(rng, 1, 9))
    if rng.random() < 0.3:
        x[:] = x.ravel()[0]  # no variance
    epsilon = int(rng.choice([1, 2**48, rng.integers(1, 2**20)]))
    op = ir.GroupNorm('y', ('x',), groups * each, grid(rng), groups, epsilon)
    return op, [x], {}


def lookup(rng: Rng) -> Made:
    count, first = int(rng.integers(1, 200)), int(rng.integers(-128, 128))
    channels, parts = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    x = numbers(rng, (2, channels, *pair(rng, 1, 5)), first, first + count - 1)
    rows = rng.integers(0, parts, rng.choice([1, channels]))
    # The last row is one that is used.
    rows[rng.integers(len(rows))] = parts - 1
    short = rng.random() < 0.5
    codes = ir.Grid(-(2**15), 2**15 - 1) if short else grid(rng)
    table = numbers(rng, (parts * count,), codes.lo, codes.hi)
    op = ir.Lookup(
        'y', ('x',), channels, codes,
        table.astype(np.int32), first,
        tuple(rows.tolist()),
    )  # fmt: skip
    return op, [x.astype(np.int16)], {}


def upsample(rng: Rng) -> Made:
    x, like = (codes(rng, 2, *pair(rng, 1, 9)) for _ in range(2))
    return ir.Upsample('z', ('x', 'y'), 2, grid_of(x)), [x, like], {}


def concatenate(rng: Rng) -> Made:
    size, count = pair(rng, 1, 5), int(rng.integers(1, 4))
    inputs = [codes(rng, int(rng.integers(1, 4)), *size) for _ in range(count)]
    channels = sum(x.shape[1] for x in inputs)
    names = ('x', 'y', 'z')[:count]
    return ir.Concatenate('all', names, channels, ir.INT32), inputs, {}


def part(rng: Rng) -> Made:
    channels, first = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    x = codes(rng, first + channels + 1, *pair(rng, 3, 9))
    op = ir.Slice(
        'y', ('x',), channels, grid_of(x), first, pair(rng, 0, 2),
        pair(rng, 1, 3),
    )  # fmt: skip
    return op, [x], {}


# Every program of a second stage begins with a Region.
MAKERS: dict[str, Callable[[Rng], Made]] = {
    'Region': part,
    'Convolution': convolution,
    'MaxPool': max_pool,
    'Requantize': requantize,
    'Add': add,
    'Multiply': multiply,
    'Mean': mean,
    'GroupNorm': group_norm,
    'Lookup': lookup,
    'Upsample': upsample,
    'Concatenate': concatenate,
    'Slice': part,
}
