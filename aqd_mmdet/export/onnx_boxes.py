"""From box codes to corners as nodes of ONNX: the contract, section 7.2.

Boxes of all levels are decoded together. What a level has of its own is a
row of a table, which is gathered by the level's index.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
from ..runtime.boxes import HALF, MAX_DELTA, MAX_DISTANCE, MIN_EXPONENT
from .onnx_curves import Fixed, fixed, read_curve, rounded
from .onnx_graph import Graph
from .onnx_ops import int64
from .onnx_scores import powers_of


@dataclass(frozen=True)
class Places:
    """Where boxes start from, and their codes, by their names in the graph.

    Attributes:
        level: Index of the pyramid level, int64 (N,).
        prior: Index of the prior, int64 (N,).
        place: Column and row, int64 (N, 2).
        codes: Box codes, int64 (N, D).
    """

    level: str
    prior: str
    place: str
    codes: str


def corners(graph: Graph, how: Decoder, at: Places) -> str:
    """Return boxes: x0, y0, x1, y1 in Q12 pixels, int64 (N, 4)."""
    match how:
        case Anchors() | Cells():
            return around(graph, how, at)
        case Points():
            table = distances(graph, how, at.level)
            sides = fixed(graph, at.codes, table, -MAX_DISTANCE, MAX_DISTANCE)
        case Exponents():
            table = Fixed.of(how.codes)
            logs = fixed(graph, at.codes, table, -how.limit, how.limit)
            edges = np.array(how.edges, np.int64)[:, None]
            edge = graph.node('Gather', edges, at.level)
            sides = grown(graph, logs, edge, how.limit, how.exp)
        case Bins():
            sides = means(graph, how, at)
    offsets = np.array([level.offset[::-1] for level in how.levels], np.int64)
    offset = graph.node('Gather', offsets, at.level)
    point = graph.node('Add', positions(graph, how.levels, at), offset)
    low = graph.node('Sub', point, graph.part(sides, 0, 2))
    high = graph.node('Add', point, graph.part(sides, 2, 4))
    return graph.node('Concat', low, high, axis=1)


def around(graph: Graph, how: Anchors | Cells, at: Places) -> str:
    """Return boxes that are moved and grown anchors."""
    bases = [level.base.astype(np.int64) for level in how.levels]
    firsts = np.cumsum([0, *map(len, bases[:-1])])
    first = graph.node('Gather', firsts, at.level)
    row = graph.node('Add', first, at.prior)
    base = graph.node('Gather', np.concatenate(bases), row)
    sides = graph.part(base, 2, 4)
    if isinstance(how, Anchors):
        table, end = how.deltas, MAX_DELTA
    else:
        table, end = how.codes, -MIN_EXPONENT
    deltas = fixed(graph, at.codes, Fixed.of(table), -end, end)
    move, grow = graph.part(deltas, 0, 2), graph.part(deltas, 2, 4)
    if isinstance(how, Anchors):
        moved = rounded(graph, graph.node('Mul', move, sides), DELTA_BITS)
    else:
        inside = read_curve(graph, how.sigmoid, move)
        inside = graph.node('Sub', inside, int64(HALF))
        stride = graph.node('Gather', strides(how.levels), at.level)
        wide = graph.node('Mul', inside, stride)
        moved = rounded(graph, wide, DELTA_BITS - GEOMETRY_BITS)
    size = grown(graph, grow, sides, how.limit, how.exp)
    centre = graph.node(
        'Add', graph.part(base, 0, 2), positions(graph, how.levels, at)
    )
    centre = graph.node('Add', centre, moved)
    low = graph.node('Sub', centre, graph.floored(size, int64(2)))
    return graph.node('Concat', low, graph.node('Add', low, size), axis=1)


def grown(graph: Graph, logs: str, sides: str, limit: int, exp: Curve) -> str:
    """Return sides times the exponentials of Q16 logarithms."""
    limited = graph.node('Clip', logs, int64(-limit), int64(limit))
    powers = read_curve(graph, exp, limited)
    return rounded(graph, graph.node('Mul', powers, sides), DELTA_BITS)


def distances(graph: Graph, how: Points, level: str) -> Fixed:
    """Return the multipliers of each box, (N, 4)."""
    tables = [Fixed.of(table) for table in how.distances]
    return Fixed(
        *(
            graph.node(
                'Gather',
                np.stack(
                    [np.broadcast_to(getattr(x, key), 4) for x in tables]
                ),
                level,
            )
            for key in ('m', 'b', 'step')
        )
    )


def means(graph: Graph, how: Bins, at: Places) -> str:
    """Return the means of distributions in Q12 pixels, (N, 4)."""
    codes = graph.node('Reshape', at.codes, np.array([-1, 4, how.bins]))
    x = fixed(graph, codes, Fixed.of(how.codes), -(2**30), 2**30)
    powers = powers_of(graph, x, how.exp, 2)
    axis = np.array([2])
    total = graph.node('ReduceSum', powers, axis, keepdims=0)
    sums = graph.node('Mul', powers, np.arange(how.bins))
    sums = graph.node('ReduceSum', sums, axis, keepdims=0)
    rows = strides(how.levels)[:, 1:] << GEOMETRY_BITS
    sums = graph.node('Mul', sums, graph.node('Gather', rows, at.level))
    half = graph.node('Div', total, int64(2))
    return graph.node('Div', graph.node('Add', sums, half), total)


def positions(
    graph: Graph, levels: Sequence[AnchorLevel | PointLevel], at: Places
) -> str:
    """Return x and y of places in Q12 pixels, (N, 2)."""
    unit = strides(levels) << GEOMETRY_BITS
    return graph.node('Mul', at.place, graph.node('Gather', unit, at.level))


def strides(levels: Sequence[AnchorLevel | PointLevel]) -> np.ndarray:
    """Return the strides of columns and rows, int64 (levels, 2)."""
    return np.array([level.stride[::-1] for level in levels], np.int64)
