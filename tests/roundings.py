"""Programs of random requantisations, with values at the edges of codes."""

import numpy as np

from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from tests.operators import program_of


def rules(rng: np.random.Generator, channels: int, grid: ir.Grid, x: np.iinfo):
    """Random multipliers of one order of magnitude."""
    width = int(rng.choice([2, 8, 24, 24, 24, 31]))
    ratio = rng.integers(-14, 4) if rng.random() < 0.8 else rng.integers(4, 24)
    shift = min(max(0, width - int(ratio)), 40)
    m = rng.integers(2 ** (width - 1), 2**width, channels)
    # Some have few rests.
    m = m >> rng.integers(0, width, channels) << rng.integers(0, 2, channels)
    m *= rng.choice([-1, 1], channels, p=[0.1, 0.9])
    # A value in the middle of a code.
    value = rng.integers(x.min // 4, x.max // 4, channels)
    code = rng.integers(grid.lo, grid.hi + 1, channels)
    rest = rng.integers(0, 2**shift, channels)
    if rng.random() < 0.5:
        rest = np.full(channels, 2**shift // 2)
    b = (code << shift) - value * m + rest
    return Multipliers(
        m.astype(np.int32), b, np.full(channels, shift, np.uint8)
    )


def edges(
    rng: np.random.Generator, rule: Multipliers, grid: ir.Grid, x: np.iinfo,
    size: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Values around those at which codes change, of each channel."""
    channels = len(rule.m)
    codes = rng.integers(grid.lo, grid.hi + 2, (channels, size[0] * size[1]))
    codes[:, :2] = grid.lo + 1, grid.hi
    codes[:, 2:5] = codes[:, :1]
    codes[:, 5:8] = codes[:, 1:2]
    m = np.where(rule.m == 0, 1, rule.m).astype(np.int64)[:, None]
    shift = rule.s.astype(np.int64)[:, None]
    at = -(-((codes << shift) - rule.b[:, None]) // m)
    at += np.resize([0, -1, 1], at.shape[1])
    at[:, -2:] = x.min, x.max
    return np.clip(at, x.min, x.max).reshape(1, channels, *size)


def requantisation(seed: int) -> tuple[ir.Program, np.ndarray]:
    """One requantisation, and what it is given."""
    rng = np.random.default_rng(seed)
    bounds = [(0, 255), (-128, 127), (-127, 127), (-2048, 2047), (-9, 2**18)]
    grid = ir.Grid(*bounds[rng.integers(len(bounds))])
    dtype = rng.choice([np.int8, np.int16, np.int32])
    channels = int(rng.integers(1, 70))
    size = int(rng.integers(1, 4)), int(rng.integers(16, 120))
    rule = rules(rng, channels, grid, np.iinfo(dtype))
    x = edges(rng, rule, grid, np.iinfo(dtype), size).astype(dtype)
    op = ir.Requantize('y', ('x',), channels, grid, rule)
    return program_of(op, [x], {})


def lookup_between(seed: int) -> tuple[ir.Program, np.ndarray]:
    """A lookup of straight lines between two requantisations.

    They may run together, with several tables in a vector.
    """
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 50))
    size = int(rng.integers(1, 4)), int(rng.integers(10, 110))
    dtype = rng.choice([np.int16, np.int32])
    low, count = -int(rng.integers(1, 2048)), int(rng.integers(1, 4097))
    inner = ir.Grid(low, low + count - 1)
    before = rules(rng, channels, inner, np.iinfo(dtype))
    # Rows of straight lines.
    rows = min(int(rng.integers(1, 12)), channels)
    shift = max(0, int(np.ceil(np.log2(count / 64))))
    length = 2**shift
    first = rng.integers(-(2**14), 2**14, (rows, -(-count // length), 1))
    slope = rng.integers(-(2**13), 2**13, first.shape)
    line = first + ((slope * np.arange(length) + length // 2) >> shift)
    table = line.reshape(rows, -1)[:, :count].astype(np.int32)
    bounds = [(0, 255), (-128, 127), (-127, 127), (0, 200), (-900, 900)]
    outer = ir.Grid(*bounds[rng.integers(len(bounds))])
    after = rules(rng, channels, outer, np.iinfo(np.int16))
    ops = (
        ir.Lookup(
            'b', ('a',), channels, ir.Grid(-(2**15), 2**15 - 1),
            table.ravel(), low,
            tuple(rng.permutation(np.arange(channels) % rows).tolist()),
        ),
        ir.Requantize('c', ('b',), channels, outer, after),
    )  # fmt: skip
    x = edges(rng, before, inner, np.iinfo(dtype), size).astype(dtype)
    op = ir.Requantize('a', ('x',), channels, inner, before)
    return program_of(op, [x], {}, ops)
