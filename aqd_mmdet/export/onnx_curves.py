"""Functions on integers as nodes of ONNX: the contract, sections 2 and 7.

All values are int64.
"""

from dataclasses import dataclass

import numpy as np

from ..program.detector import Curve
from ..program.fixed_point import Multipliers
from .onnx_graph import Graph
from .onnx_ops import int64, scaled_root


@dataclass(frozen=True)
class Fixed:
    """The integers of a requantisation, as arrays or names in the graph.

    Attributes:
        m: Multipliers, int64.
        b: Biases, int64.
        step: ``2^s`` of the shifts, int64.
    """

    m: str | np.ndarray
    b: str | np.ndarray
    step: str | np.ndarray

    @classmethod
    def of(cls, table: Multipliers) -> 'Fixed':
        """Return those of a table, each (C,)."""
        m, b, s = (
            part.astype(np.int64) for part in (table.m, table.b, table.s)
        )
        return cls(m, b, 1 << s)


def fixed(graph: Graph, x: str, table: Fixed, lo: int, hi: int) -> str:
    """Requantise values; the table broadcasts to their shape."""
    product = graph.node('Mul', x, table.m)
    shifted = graph.floored(graph.node('Add', product, table.b), table.step)
    return graph.node('Clip', shifted, int64(lo), int64(hi))


def read_curve(graph: Graph, curve: Curve, x: str) -> str:
    """Return a curve's values at arguments inside its range.

    The contract's sum is ``table[i] * one + half``, which a table holds, plus
    ``r`` times the difference of two values. No term of it is negative before
    a quotient.
    """
    one = 1 << curve.bits
    values = curve.table.astype(np.int64)
    starts = values[:-1] * one + (one >> 1)
    distance = graph.node('Sub', x, int64(curve.first))
    i = graph.node('Div', distance, int64(one))
    r = graph.node('Mod', distance, int64(one))
    rise = graph.node('Mul', graph.node('Gather', np.diff(values), i), r)
    sums = graph.node('Add', graph.node('Gather', starts, i), rise)
    return graph.node('Div', sums, int64(one))


def rounded(graph: Graph, x: str, bits: int) -> str:
    """Return ``x / 2^bits``, ties upwards."""
    more = graph.node('Add', x, int64(1 << (bits - 1)))
    return graph.floored(more, int64(1 << bits))


def square_root(graph: Graph, x: str) -> str:
    """Return the floored square roots of values from 0 to 2^49.

    That of ``x * 4^e``, floored and divided by ``2^e``, is the same. For 0
    Newton's steps are not at the end, but below ``2^e``.
    """
    root, scale = scaled_root(graph, x)
    return graph.node('Div', root, scale)
