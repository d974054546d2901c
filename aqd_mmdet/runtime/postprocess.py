"""From logits to boxes on integers: docs/integer_contract.md, section 7."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..integer.detector import (
    BOX_BITS,
    DELTA_BITS,
    GEOMETRY_BITS,
    OVERLAP_BITS,
    SCORE_BITS,
    AnchorLevel,
    Anchors,
    Curve,
    PointLevel,
    Points,
    PostProcess,
    Product,
)
from ..integer.fixed_point import Multipliers

MAX_DELTA = 64 << DELTA_BITS
MAX_DISTANCE = 1 << 26
MAX_LOGIT = 16 << DELTA_BITS


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    Attributes:
        corners: int64 (N, 4): x0, y0, x1, y1 in 16ths of a pixel.
        labels: int64 (N,).
        ranks: int64 (N,); of two boxes, the one of the larger is better.
    """

    corners: np.ndarray
    labels: np.ndarray
    ranks: np.ndarray

    def pick(self, index: np.ndarray) -> 'Boxes':
        """Return some of the boxes, in the order of an index."""
        return Boxes(
            self.corners[index], self.labels[index], self.ranks[index]
        )


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


def _rounded(x: np.ndarray, bits: int) -> np.ndarray:
    return (x + (1 << (bits - 1))) >> bits


def _anchor_boxes(
    level: AnchorLevel,
    how: Anchors,
    codes: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    prior: np.ndarray,
) -> np.ndarray:
    base = level.base.astype(np.int64)[prior]
    deltas = fixed(codes, how.deltas, -MAX_DELTA, MAX_DELTA)
    size = read_curve(how.exp, np.clip(deltas[:, 2:], -how.limit, how.limit))
    size = _rounded(size * base[:, 2:], DELTA_BITS)
    place = np.stack([x * level.stride[1], y * level.stride[0]], 1)
    centre = base[:, :2] + (place << GEOMETRY_BITS)
    centre = centre + _rounded(deltas[:, :2] * base[:, 2:], DELTA_BITS)
    corner = centre - (size >> 1)
    return np.concatenate([corner, corner + size], 1)


def _point_boxes(
    level: PointLevel, codes: np.ndarray, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    distances = fixed(codes, level.distances, 0, MAX_DISTANCE)
    place = np.stack([x * level.stride[1], y * level.stride[0]], 1)
    offset = np.array(level.offset[::-1], np.int64)
    point = (place << GEOMETRY_BITS) + offset
    return np.concatenate(
        [point - distances[:, :2], point + distances[:, 2:]], 1
    )


def level_boxes(
    post: PostProcess,
    level: int,
    maps: Sequence[np.ndarray],
    size: tuple[int, int],
) -> Boxes:
    """Return the candidates of one pyramid level.

    Args:
        post: Parameters.
        level: Index of the level.
        maps: Logits (A * C, H, W), box codes (A * 4, H, W) and, where scores
            are products, factors (A, H, W), all int32.
        size: Height and width of the image before its border.
    """
    logits, codes = maps[:2]
    height, width = logits.shape[1:]
    priors = codes.shape[0] // 4
    classes = logits.shape[0] // priors
    flat = logits.transpose(1, 2, 0).reshape(-1).astype(np.int64)
    above = np.flatnonzero(flat >= post.threshold)
    order = np.argsort(-flat[above], kind='stable')[: post.candidates]
    index = above[order]
    place, label = index // classes, index % classes
    prior, pixel = place % priors, place // priors
    y, x = pixel // width, pixel % width
    chosen = (
        codes.transpose(1, 2, 0)
        .reshape(height * width * priors, 4)[place]
        .astype(np.int64)
    )
    how = post.decoder
    if isinstance(how, Anchors):
        wide = _anchor_boxes(how.levels[level], how, chosen, y, x, prior)
    else:
        assert isinstance(how, Points)
        wide = _point_boxes(how.levels[level], chosen, y, x)
    limit = np.array([size[1], size[0]] * 2, np.int64) << GEOMETRY_BITS
    corners = np.clip(wide, 0, limit)
    corners = _rounded(corners, GEOMETRY_BITS - BOX_BITS)
    ranks = flat[index]
    if isinstance(post.scores, Product):
        factors = maps[2].transpose(1, 2, 0).reshape(-1).astype(np.int64)
        ranks = _products(post.scores, ranks, factors[place])
    boxes = Boxes(corners, label, ranks)
    sides = corners[:, 2:] - corners[:, :2]
    return boxes.pick(np.flatnonzero((sides > 0).all(1)))


def suppress(boxes: Boxes, overlap: int, keep: int) -> Boxes:
    """Drop boxes that overlap a better one of their class.

    Args:
        boxes: Candidates in the order of levels.
        overlap: Largest intersection over union, in 65536ths.
        keep: Most boxes that stay.
    """
    boxes = boxes.pick(np.argsort(-boxes.ranks, kind='stable'))
    corners = boxes.corners
    sides = corners[:, 2:] - corners[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    left: np.ndarray = np.arange(len(areas))
    kept: list[int] = []
    while len(left) and len(kept) < keep:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[left, :2])
        high = np.minimum(corners[best, 2:], corners[left, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[best] + areas[left] - shared
        worse = (shared << OVERLAP_BITS) > overlap * union
        same = boxes.labels[left] == boxes.labels[best]
        left = left[~(worse & same)]
    return boxes.pick(np.array(kept, np.int64))


def detect(
    post: PostProcess,
    outputs: Sequence[Sequence[np.ndarray]],
    size: tuple[int, int],
) -> Boxes:
    """Return the boxes of one image.

    Args:
        post: Parameters.
        outputs: Each kind of map of all levels, in the order of
            :func:`level_boxes`.
        size: Height and width of the network's image before its border.
    """
    levels = [
        level_boxes(post, number, maps, size)
        for number, maps in enumerate(zip(*outputs, strict=True))
    ]
    together = Boxes(
        *(
            np.concatenate([getattr(boxes, name) for boxes in levels])
            for name in ('corners', 'labels', 'ranks')
        )
    )
    return suppress(together, post.overlap, post.keep)


def rescaled(
    corners: np.ndarray, size: tuple[int, int], original: tuple[int, int]
) -> np.ndarray:
    """Return corners in 16ths of a pixel of the original image."""
    to, back = (np.array([s[1], s[0]] * 2, np.int64) for s in (size, original))
    return (2 * corners * back + to) // (2 * to)


def _sigmoid(
    logits: np.ndarray, table: Multipliers, curve: Curve
) -> np.ndarray:
    """Return int64 sigmoids in units of 2^-24."""
    x = fixed(logits[:, None], table, -MAX_LOGIT, MAX_LOGIT)[:, 0]
    return read_curve(curve, x)


def _products(
    how: Product, logits: np.ndarray, factors: np.ndarray
) -> np.ndarray:
    """Return int64 products of two sigmoids in units of 2^-48."""
    return _sigmoid(logits, how.logits, how.curve) * _sigmoid(
        factors, how.factors, how.curve
    )


def scores(post: PostProcess, ranks: np.ndarray) -> np.ndarray:
    """Return what people are shown of ranks, in units of 2^-24."""
    how = post.scores
    if isinstance(how, Product):
        return _rounded(ranks, SCORE_BITS)
    return _sigmoid(ranks, how.logits, how.curve)
