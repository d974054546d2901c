"""How good a candidate is, as nodes of ONNX: the contract, section 7.1."""

import numpy as np

from ..program.detector import (
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
from ..runtime.scores import MAX_LOGIT, NEVER
from .onnx_curves import Fixed, fixed, read_curve, rounded, square_root
from .onnx_graph import Graph
from .onnx_ops import int64


def first_ranks(
    graph: Graph, how: Scores, logits: str, factors: str, classes: int
) -> str:
    """Return the ranks that candidates are chosen by.

    Args:
        graph: The graph.
        how: Of the detector.
        logits: int64 (N, C), or (N, C + 1) with a background.
        factors: int64 (N, 1); ignored where there are none.
        classes: C.

    Returns:
        str: int64 (N, C).
    """
    match how:
        case Sigmoid():
            return logits
        case Product():
            counts = graph.node('GreaterOrEqual', factors, int64(how.least))
            return graph.node('Where', counts, logits, int64(NEVER))
        case BestClass():
            best = graph.node('ArgMax', logits, axis=1)
            largest = graph.node('ReduceMax', logits, axes=[1])
            is_best = graph.node('Equal', best, np.arange(classes))
            product = product_of(graph, how, largest, factors)
            return graph.node('Where', is_best, product, int64(NEVER))
        case Joint() | GeometricMean():
            return product_of(graph, how, logits, factors)
        case Softmax():
            table = Fixed.of(how.logits)
            x = fixed(graph, logits, table, -(2**30), 2**30)
            return graph.part(shares(graph, x, how.exp), 0, classes)


def last_ranks(graph: Graph, how: Scores, ranks: str, factors: str) -> str:
    """Return the ranks that candidates are ordered by.

    Args:
        graph: The graph.
        how: Of the detector.
        ranks: What they were chosen by, int64 (N, 1).
        factors: As of :func:`first_ranks`.
    """
    if isinstance(how, Product):
        return product_of(graph, how, ranks, factors)
    return ranks


def shown(graph: Graph, how: Scores, ranks: str) -> str:
    """Return what people are shown of ranks, in units of 2^-24."""
    match how:
        case Sigmoid():
            return sigmoid(graph, ranks, how.logits, how.curve)
        case Product() | BestClass() | Joint():
            return rounded(graph, ranks, SCORE_BITS)
        case GeometricMean():
            return square_root(graph, ranks)
        case Softmax():
            return ranks


def product_of(graph: Graph, how: Factored, logits: str, factors: str) -> str:
    """Return products of two sigmoids in units of 2^-48."""
    return graph.node(
        'Mul',
        sigmoid(graph, logits, how.logits, how.curve),
        sigmoid(graph, factors, how.factors, how.curve),
    )


def sigmoid(graph: Graph, x: str, table: Multipliers, curve: Curve) -> str:
    """Return sigmoids of integers of the maps in units of 2^-24."""
    argument = fixed(graph, x, Fixed.of(table), -MAX_LOGIT, MAX_LOGIT)
    return read_curve(graph, curve, argument)


def shares(graph: Graph, x: str, exp: Curve) -> str:
    """Return softmax's shares of Q16 logits (N, C) in units of 2^-24."""
    powers = powers_of(graph, x, exp, 1)
    total = graph.node('ReduceSum', powers, np.array([1]))
    return graph.node(
        'Div', graph.node('Mul', powers, int64(1 << SCORE_BITS)), total
    )


def powers_of(graph: Graph, x: str, exp: Curve, axis: int) -> str:
    """Return exponentials of Q16 numbers, relative to the largest of an
    axis, in units of 2^-24."""
    largest = graph.node('ReduceMax', x, axes=[axis])
    below = graph.node('Sub', x, largest)
    below = graph.node('Clip', below, int64(-MAX_LOGIT))
    return read_curve(graph, exp, below)
