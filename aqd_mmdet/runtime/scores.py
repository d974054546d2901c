"""How good a candidate is: docs/integer_contract.md, section 7.

A rank is an integer; of two candidates the one of the larger rank is better.
Some heads choose candidates by one rank and order them by another.
"""

import numpy as np

from ..program.detector import (
    DELTA_BITS,
    SCORE_BITS,
    BestClass,
    Curve,
    Factored,
    GeometricMean,
    Joint,
    Product,
    Scores,
    Sigmoid,
    Softmax,
)
from ..program.fixed_point import Multipliers
from .curves import fixed, read_curve, rounded, square_root

MAX_LOGIT = 16 << DELTA_BITS
# Below every threshold.
NEVER = -(2**62)


def sigmoid(x: np.ndarray, table: Multipliers, curve: Curve) -> np.ndarray:
    """Return int64 sigmoids of int64 logits in units of 2^-24."""
    flat = fixed(x.reshape(-1, 1), table, -MAX_LOGIT, MAX_LOGIT)
    return read_curve(curve, flat).reshape(x.shape)


def first_ranks(
    how: Scores, logits: np.ndarray, factors: np.ndarray
) -> np.ndarray:
    """Return the ranks that candidates are chosen by.

    Args:
        how: Of the detector.
        logits: int64 (N, C).
        factors: Third output, int64 (N,); ignored where there is none.

    Returns:
        np.ndarray: int64 (N, C), without the background.
    """
    match how:
        case Sigmoid():
            return logits
        case Product():
            return np.where(factors[:, None] >= how.least, logits, NEVER)
        case BestClass():
            best = logits.argmax(1)[:, None]
            ranks = np.full_like(logits, NEVER)
            chosen = np.take_along_axis(logits, best, 1)
            product = _product(how, chosen, factors[:, None])
            np.put_along_axis(ranks, best, product, 1)
            return ranks
        case Joint() | GeometricMean():
            return _product(how, logits, factors[:, None])
        case Softmax():
            x = fixed(logits, how.logits, -(2**30), 2**30)
            return shares(x, how.exp)[:, :-1]


def last_ranks(
    how: Scores, ranks: np.ndarray, factors: np.ndarray
) -> np.ndarray:
    """Return the ranks that candidates are ordered by.

    Args:
        how: Of the detector.
        ranks: What they were chosen by, int64 (N,).
        factors: Third output, int64 (N,).
    """
    if isinstance(how, Product):
        return _product(how, ranks, factors)
    return ranks


def shown(how: Scores, ranks: np.ndarray) -> np.ndarray:
    """Return what people are shown of ranks, in units of 2^-24."""
    match how:
        case Sigmoid():
            return sigmoid(ranks, how.logits, how.curve)
        case Product() | BestClass() | Joint():
            return rounded(ranks, SCORE_BITS)
        case GeometricMean():
            return square_root(ranks)
        case Softmax():
            return ranks


def _product(
    how: Factored, logits: np.ndarray, factors: np.ndarray
) -> np.ndarray:
    """Return products of two sigmoids in units of 2^-48."""
    return sigmoid(logits, how.logits, how.curve) * sigmoid(
        factors, how.factors, how.curve
    )


def shares(x: np.ndarray, exp: Curve) -> np.ndarray:
    """Return softmax's shares in units of 2^-24.

    Args:
        x: Logits in Q16, int64 (N, C).
        exp: The exponential of Q16 numbers from -16 to 0, in 2^-24.
    """
    below = np.maximum(x - x.max(1, keepdims=True), -MAX_LOGIT)
    powers = read_curve(exp, below)
    return (powers << SCORE_BITS) // powers.sum(1, keepdims=True)
