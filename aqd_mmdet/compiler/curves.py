"""Functions as tables that a program interpolates in."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..program.detector import DELTA_BITS, SCORE_BITS, Curve
from .box_selection import MAX_LOGIT

ONE = 1 << DELTA_BITS
# Distance of a curve's values as a power of two of Q16 units: linear
# interpolation between exponentials 1/256 apart is wrong by 2e-6 of the
# value, between sigmoids 1/64 apart by 3e-6.
EXP_BITS, SIGMOID_BITS = 8, 10


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def sigmoid(unit: int) -> Curve:
    """Return the sigmoid of Q16 numbers.

    Args:
        unit: What stands for 1.
    """
    return sample(_logistic, MAX_LOGIT * ONE, SIGMOID_BITS, unit)


def exponential(limit: int) -> Curve:
    """Return the exponential within +-limit, Q16 to Q16."""
    return sample(np.exp, limit, EXP_BITS, ONE)


def exponential_below_zero() -> Curve:
    """Return the exponential of Q16 numbers from -16 to 0, in 2^-24."""
    curve = sample(
        lambda x: np.exp(np.minimum(x, 0)),
        MAX_LOGIT * ONE,
        EXP_BITS,
        2**SCORE_BITS,
    )
    # Zero and the value behind it are the last that are read.
    return replace(curve, table=curve.table[: len(curve.table) // 2 + 1])


def sample(function: Any, limit: int, bits: int, unit: int) -> Curve:
    """Return a function of Q16 numbers.

    Args:
        function: Of float64 arrays.
        limit: Largest magnitude of an argument.
        bits: Arguments of neighbouring values are ``2^bits`` apart.
        unit: What stands for 1.
    """
    # One step below the range and one above it, so that both ends of the
    # range lie between two values.
    step = 1 << bits
    first = -(limit // step + 1) * step
    count = 2 * (limit // step + 1) + 2
    at = (first + step * np.arange(count)) / ONE
    values = np.floor(function(at) * unit + 0.5)
    return Curve(values.astype(np.int32), first, bits)
