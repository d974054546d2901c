"""From maps to boxes as nodes of ONNX: the contract, section 7.

Candidates are rows of int64, whose columns are named below.
"""

from collections.abc import Sequence

import numpy as np

from ..program.detector import BOX_BITS, GEOMETRY_BITS, PostProcess
from ..runtime.postprocess import priors_of
from .onnx_boxes import Places, corners
from .onnx_curves import rounded
from .onnx_graph import LAST, Graph, Tensor
from .onnx_ops import int64
from .onnx_scores import first_ranks, last_ranks, shown
from .onnx_suppression import suppress

# Columns: what a candidate was chosen by, what orders it, what it is; the
# pyramid level, prior and place of its box, and the box codes.
CHOSEN, RANK, LABEL, LEVEL, PRIOR, X, Y, CODES = range(8)


def detect(
    graph: Graph,
    post: PostProcess,
    maps: Sequence[Sequence[Tensor]],
    size: str,
    classes: int,
) -> tuple[str, str, str]:
    """Return the boxes of one image, the best first.

    Args:
        graph: The graph.
        post: Parameters.
        maps: Each kind of map of all levels: logits, box codes, factors.
        size: Height and width of the image before its border, int64 (2,).
        classes: How many there are.

    Returns:
        tuple: Edges (N, 4) in 256ths of a pixel, labels (N,) and scores (N,)
        in units of 2^-24, int64.
    """
    levels = [
        candidates(graph, post, number, each, classes)
        for number, each in enumerate(zip(*maps, strict=True))
    ]
    graph.scope = 'candidates'
    rows = graph.node('Concat', *levels, axis=0)
    best = first(graph, column(graph, rows, CHOSEN), post.total)
    rows = graph.node('Gather', rows, in_order(graph, best))
    graph.scope = 'boxes'
    level, prior = (column(graph, rows, each) for each in (LEVEL, PRIOR))
    place = graph.part(rows, X, Y + 1)
    codes = graph.part(rows, CODES, LAST)
    wide = corners(graph, post.decoder, Places(level, prior, place, codes))
    edges = limited(graph, post, wide, size)
    graph.scope = 'suppression'
    about = graph.part(rows, RANK, LABEL + 1)
    edges, ranks, labels = suppress(
        graph, edges, about, post.overlap, post.keep
    )
    graph.scope = 'scores'
    return edges, labels, shown(graph, post.scores, ranks)


def candidates(
    graph: Graph,
    post: PostProcess,
    level: int,
    maps: Sequence[Tensor],
    classes: int,
) -> str:
    """Return the candidates of one pyramid level, int64 (N, columns).

    Args:
        graph, post, classes: As of :func:`detect`.
        level: Index of the level.
        maps: Logits, box codes and, where scores are products, factors.
    """
    graph.scope = f'candidates of level {level}'
    priors = priors_of(post.decoder, level)
    logits, codes, *others = (by_place(graph, x, priors) for x in maps)
    factors = others[0] if others else ''
    ranks = first_ranks(graph, post.scores, logits, factors, classes)
    flat = graph.node('Reshape', ranks, np.array([-1]))
    counts = graph.node('GreaterOrEqual', flat, int64(post.threshold))
    above = graph.node('NonZero', counts)
    above = graph.node('Reshape', above, np.array([-1]))
    order = first(graph, graph.node('Gather', flat, above), post.candidates)
    index = graph.node('Gather', above, order)
    chosen = graph.node('Gather', flat, index)
    place, label = divided(graph, index, int64(classes))
    pixel, prior = divided(graph, place, int64(priors))
    width = graph.node('Squeeze', graph.size(maps[0].name, 3, 4))
    y, x = divided(graph, pixel, width)
    known = graph.node('Expand', np.array([level]), graph.size(index, 0, 1))
    chosen, label, known, prior, x, y = (
        graph.node('Unsqueeze', each, np.array([1]))
        for each in (chosen, label, known, prior, x, y)
    )
    if others:
        factors = graph.node('Gather', factors, place)
    rank = last_ranks(graph, post.scores, chosen, factors)
    codes = graph.node('Gather', codes, place)
    columns = (chosen, rank, label, known, prior, x, y, codes)
    return graph.node('Concat', *columns, axis=1)


def by_place(graph: Graph, x: Tensor, priors: int) -> str:
    """Return a map by place and prior, int64 (places * priors, channels).

    A batch of several images fails in Squeeze.
    """
    codes = graph.codes(x)
    one = graph.node('Squeeze', codes.name, np.array([0]))
    last = graph.node('Transpose', one, perm=[1, 2, 0])
    shape = np.array([-1, len(x.offset) // priors])
    return graph.cast(graph.node('Reshape', last, shape), 'int64')


def first(graph: Graph, ranks: str, most: int) -> str:
    """Return the indices of the largest ranks, the largest first.

    Of equal ones the first comes first: TopK says so.
    """
    count = graph.node('Min', graph.size(ranks, 0, 1), np.array([most]))
    return graph.several(2, 'TopK', ranks, count, axis=0)[1]


def in_order(graph: Graph, index: str) -> str:
    """Return indices that rise."""
    count = graph.size(index, 0, 1)
    return graph.several(2, 'TopK', index, count, axis=0, largest=0)[0]


def column(graph: Graph, rows: str, index: int) -> str:
    return graph.node('Gather', rows, int64(index), axis=1)


def divided(
    graph: Graph, x: str, divisor: str | np.ndarray
) -> tuple[str, str]:
    """Return quotients and remainders of numbers from 0."""
    return graph.node('Div', x, divisor), graph.node('Mod', x, divisor)


def limited(graph: Graph, post: PostProcess, wide: str, size: str) -> str:
    """Return edges inside the margin around an image: section 7.3."""
    across = graph.node('Gather', size, np.array([1, 0, 1, 0]))
    far = graph.node('Add', across, int64(post.margin))
    far = graph.node('Mul', far, int64(1 << GEOMETRY_BITS))
    near = -max(post.margin, 0) << GEOMETRY_BITS
    edges = graph.node('Min', graph.node('Max', wide, int64(near)), far)
    return rounded(graph, edges, GEOMETRY_BITS - BOX_BITS)
