"""Functions on integers: the contract, sections 2 and 7."""

import numpy as np

from ..program.detector import Curve
from ..program.fixed_point import Multipliers


def fixed(x: np.ndarray, table: Multipliers, lo: int, hi: int) -> np.ndarray:
    """Requantise int64 values whose last axis is the table's channels."""
    m, b, s = (a.astype(np.int64) for a in (table.m, table.b, table.s))
    return np.clip((x * m + b) >> s, lo, hi)


def read_curve(curve: Curve, x: np.ndarray) -> np.ndarray:
    """Return a curve's values at int64 arguments inside its range."""
    one = 1 << curve.bits
    table = curve.table.astype(np.int64)
    i, r = (x - curve.first) >> curve.bits, (x - curve.first) & (one - 1)
    # Half a unit for rounding, unless values are not interpolated at all.
    sums = table[i] * (one - r) + table[i + 1] * r + (one >> 1)
    return sums >> curve.bits


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """Return ``x / 2^bits``, ties upwards."""
    return (x + (1 << (bits - 1))) >> bits


def square_root(x: np.ndarray) -> np.ndarray:
    """Return the floored square roots of int64 values below 2^62."""
    root = np.zeros_like(x)
    for bit in range(30, -1, -1):
        larger = root + (1 << bit)
        root = np.where(larger * larger <= x, larger, root)
    return root
