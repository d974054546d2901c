"""From box codes to corners: docs/integer_contract.md, section 7."""

import numpy as np

from ..program.detector import (
    DELTA_BITS,
    GEOMETRY_BITS,
    AnchorLevel,
    Anchors,
    Bins,
    Cells,
    Curve,
    Decoder,
    Exponents,
    PointLevel,
    Points,
)
from .curves import fixed, read_curve, rounded

MAX_DELTA = 64 << DELTA_BITS
MAX_DISTANCE = 1 << 26
MIN_EXPONENT = -(16 << DELTA_BITS)
HALF = 1 << (DELTA_BITS - 1)


def corners(
    how: Decoder,
    level: int,
    codes: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    prior: np.ndarray,
) -> np.ndarray:
    """Return boxes.

    Args:
        how: Of the detector.
        level: Index of the pyramid level.
        codes: Box codes, int64 (N, channels of one prior).
        y: Rows of the places, int64 (N,).
        x: Their columns.
        prior: Indices of their priors.

    Returns:
        np.ndarray: x0, y0, x1, y1 in Q12 pixels, int64 (N, 4).
    """
    place = np.stack([x, y], 1)
    match how:
        case Anchors():
            base = how.levels[level].base.astype(np.int64)[prior]
            deltas = fixed(codes, how.deltas, -MAX_DELTA, MAX_DELTA)
            moved = rounded(deltas[:, :2] * base[:, 2:], DELTA_BITS)
            size = grown(deltas[:, 2:], base[:, 2:], how.limit, how.exp)
            return _around(how.levels[level], base, place, moved, size)
        case Cells():
            base = how.levels[level].base.astype(np.int64)[prior]
            deltas = fixed(codes, how.codes, MIN_EXPONENT, -MIN_EXPONENT)
            inside = read_curve(how.sigmoid, deltas[:, :2]) - HALF
            stride = np.array(how.levels[level].stride[::-1], np.int64)
            # Q16 times pixels, to Q12.
            moved = rounded(inside * stride, DELTA_BITS - GEOMETRY_BITS)
            size = grown(deltas[:, 2:], base[:, 2:], how.limit, how.exp)
            return _around(how.levels[level], base, place, moved, size)
        case Points():
            table = how.distances[level]
            sides = fixed(codes, table, -MAX_DISTANCE, MAX_DISTANCE)
        case Exponents():
            x16 = fixed(codes, how.codes, -how.limit, how.limit)
            grew = read_curve(how.exp, x16) * how.edges[level]
            sides = rounded(grew, DELTA_BITS)
        case Bins():
            sides = _means(how, codes, how.levels[level].stride[0])
    point = _point(how.levels[level], place)
    return np.concatenate([point - sides[:, :2], point + sides[:, 2:]], 1)


def grown(
    logs: np.ndarray, sides: np.ndarray, limit: int, exp: Curve
) -> np.ndarray:
    """Return sides times the exponentials of Q16 logarithms."""
    powers = read_curve(exp, np.clip(logs, -limit, limit))
    return rounded(powers * sides, DELTA_BITS)


def _around(
    level: AnchorLevel,
    base: np.ndarray,
    place: np.ndarray,
    moved: np.ndarray,
    size: np.ndarray,
) -> np.ndarray:
    stride = np.array(level.stride[::-1], np.int64)
    centre = base[:, :2] + (place * stride << GEOMETRY_BITS) + moved
    corner = centre - (size >> 1)
    return np.concatenate([corner, corner + size], 1)


def _point(level: PointLevel, place: np.ndarray) -> np.ndarray:
    stride = np.array(level.stride[::-1], np.int64)
    offset = np.array(level.offset[::-1], np.int64)
    return (place * stride << GEOMETRY_BITS) + offset


def _means(how: Bins, codes: np.ndarray, stride: int) -> np.ndarray:
    """Return the means of distributions, in Q12 pixels."""
    flat = fixed(codes.reshape(-1, 1), how.codes, -(2**30), 2**30)
    x = flat.reshape(len(codes), 4, how.bins)
    below = np.maximum(x - x.max(2, keepdims=True), MIN_EXPONENT)
    powers = read_curve(how.exp, below)
    total = powers.sum(2)
    sums = (powers * np.arange(how.bins)).sum(2) * stride
    return ((sums << GEOMETRY_BITS) + (total >> 1)) // total
