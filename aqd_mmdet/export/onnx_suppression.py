"""Suppression as a Loop of ONNX: the contract, section 7.4."""

import numpy as np

from ..program.detector import OVERLAP_BITS
from .onnx_graph import LAST, Body, Graph, Value
from .onnx_ops import int64

# Columns of a box: four edges, area, rank, label.
AREA, RANK, LABEL, COLUMNS = 4, 5, 6, 7
FIRST, SECOND, END = np.array([0]), np.array([1]), np.array([LAST])


def suppress(
    graph: Graph, edges: str, about: str, overlap: int, keep: int
) -> tuple[str, str, str]:
    """Drop boxes without width or height, or that overlap a better one.

    Args:
        graph: The graph.
        edges: Of candidates in the order of levels, int64 (N, 4).
        about: Their ranks and labels, int64 (N, 2).
        overlap: Largest intersection over union, in 65536ths.
        keep: Most boxes that stay.

    Returns:
        tuple: Edges, ranks and labels of those that stay, the best first.
    """
    sides = graph.node('Sub', graph.part(edges, 2, 4), graph.part(edges, 0, 2))
    least = graph.node('ReduceMin', sides, axes=[1], keepdims=0)
    area = graph.node('ReduceProd', sides, axes=[1])
    boxes = graph.node('Concat', edges, area, about, axis=1)
    is_real = graph.node('Greater', least, int64(0))
    boxes = graph.node('Compress', boxes, is_real, axis=0)
    ranks = graph.node('Gather', boxes, int64(RANK), axis=1)
    count = graph.size(ranks, 0, 1)
    _, order = graph.several(2, 'TopK', ranks, count, axis=0)
    boxes = graph.node('Gather', boxes, order)
    none = np.zeros((0, COLUMNS), np.int64)
    kept, _ = graph.several(
        2, 'Loop', int64(keep), np.array(True), none, boxes,
        body=body(graph.inner(), overlap),
    )  # fmt: skip
    return (
        graph.part(kept, 0, AREA),
        graph.node('Gather', kept, int64(RANK), axis=1),
        graph.node('Gather', kept, int64(LABEL), axis=1),
    )


def body(graph: Graph, overlap: int) -> Body:
    """Keep the first box, and of the others those that it does not suppress.

    What a Loop carries has one shape in ONNX's types, whose sizes are free.
    It runs once even if there is no box: then there is none to keep.
    """
    graph.scope = 'suppression of one box'
    names = [graph.unique(x) for x in ('count', 'condition', 'kept', 'boxes')]
    number, condition, kept, boxes = names
    best = graph.node('Slice', boxes, FIRST, SECOND)
    others = graph.node('Slice', boxes, SECOND, END)
    low = graph.node('Max', graph.part(best, 0, 2), graph.part(others, 0, 2))
    high = graph.node('Min', graph.part(best, 2, 4), graph.part(others, 2, 4))
    sides = graph.node('Max', graph.node('Sub', high, low), int64(0))
    shared = graph.node('ReduceProd', sides, axes=[1])
    areas = (graph.part(x, AREA, RANK) for x in (best, others))
    union = graph.node('Sub', graph.node('Add', *areas), shared)
    overlaps = graph.node(
        'Greater',
        graph.node('Mul', shared, int64(1 << OVERLAP_BITS)),
        graph.node('Mul', union, int64(overlap)),
    )
    labels = (graph.part(x, LABEL, COLUMNS) for x in (best, others))
    is_same = graph.node('Equal', *labels)
    is_worse = graph.node('And', overlaps, is_same)
    stays = graph.node('Squeeze', graph.node('Not', is_worse), SECOND)
    left = graph.node('Compress', others, stays, axis=0)
    more = graph.node('Greater', graph.node('Size', left), int64(0))
    longer = graph.node('Concat', kept, best, axis=0)
    inputs = (
        Value(number, 'int64', ()),
        Value(condition, 'bool', ()),
        Value(kept, 'int64', ('kept', COLUMNS)),
        Value(boxes, 'int64', ('boxes', COLUMNS)),
    )
    outputs = (
        Value(more, 'bool', ()),
        Value(longer, 'int64', ('longer', COLUMNS)),
        Value(left, 'int64', ('left', COLUMNS)),
    )
    return Body(graph, inputs, outputs)
