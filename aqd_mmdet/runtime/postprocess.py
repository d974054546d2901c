"""From logits to boxes on integers: docs/integer_contract.md, section 7."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..program.detector import (
    BOX_BITS,
    GEOMETRY_BITS,
    OVERLAP_BITS,
    Anchors,
    Cells,
    Decoder,
    PostProcess,
)
from .boxes import corners
from .curves import rounded
from .scores import first_ranks, last_ranks


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    Attributes:
        corners: int64 (N, 4): x0, y0, x1, y1 in 256ths of a pixel.
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

    def real(self) -> 'Boxes':
        """Return those that have a width and a height."""
        sides = self.corners[:, 2:] - self.corners[:, :2]
        return self.pick(np.flatnonzero((sides > 0).all(1)))


def level_boxes(
    post: PostProcess,
    level: int,
    maps: Sequence[np.ndarray],
    size: tuple[int, int],
) -> tuple[Boxes, np.ndarray]:
    """Return the candidates of one pyramid level, and what chose them.

    Args:
        post: Parameters.
        level: Index of the level.
        maps: Logits (A * C, H, W), box codes (A * D, H, W) and, where scores
            are products, factors (A, H, W), all int32.
        size: Height and width of the image before its border.

    Returns:
        tuple: Candidates, with the ranks that order them; the ranks that
        they were chosen by, int64 (N,).

    Raises:
        UserError: If the maps are of several sizes.
    """
    height, width = maps[0].shape[1:]
    if any(x.shape[1:] != (height, width) for x in maps):
        raise UserError(f'the maps of level {level} are of several sizes')
    priors = priors_of(post.decoder, level)
    places = height * width * priors
    by_place = [
        x.transpose(1, 2, 0).reshape(places, -1).astype(np.int64) for x in maps
    ]
    # Where there is no third output, nobody reads it.
    factors = by_place[-1][:, 0]
    ranks = first_ranks(post.scores, by_place[0], factors)
    classes = ranks.shape[1]
    flat = ranks.reshape(-1)
    above = np.flatnonzero(flat >= post.threshold)
    order = np.argsort(-flat[above], kind='stable')[: post.candidates]
    index = above[order]
    place, label = index // classes, index % classes
    prior, pixel = place % priors, place // priors
    codes = by_place[1][place]
    y, x = np.divmod(pixel, width)
    boxes = Boxes(
        _limited(post, corners(post.decoder, level, codes, y, x, prior), size),
        label,
        last_ranks(post.scores, flat[index], factors[place]),
    )
    return boxes, flat[index]


def _limited(
    post: PostProcess, wide: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Return edges inside the margin around an image, in 256ths of a pixel."""
    far = np.array([size[1], size[0]] * 2, np.int64) + post.margin
    near = -max(post.margin, 0)
    limited = np.clip(wide, near << GEOMETRY_BITS, far << GEOMETRY_BITS)
    return rounded(limited, GEOMETRY_BITS - BOX_BITS)


def priors_of(decoder: Decoder, level: int) -> int:
    """Return how many boxes start from each place of a level."""
    if isinstance(decoder, (Anchors, Cells)):
        return len(decoder.levels[level].base)
    return 1


def suppress(boxes: Boxes, overlap: int, keep: int) -> Boxes:
    """Drop boxes that overlap a better one of their class.

    Args:
        boxes: Candidates in the order of levels.
        overlap: Largest intersection over union, in 65536ths.
        keep: Most boxes that stay.
    """
    boxes = boxes.pick(np.argsort(-boxes.ranks, kind='stable'))
    edges = boxes.corners
    sides = edges[:, 2:] - edges[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    left: np.ndarray = np.arange(len(areas))
    kept: list[int] = []
    while len(left) and len(kept) < keep:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(edges[best, :2], edges[left, :2])
        high = np.minimum(edges[best, 2:], edges[left, 2:])
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
    together = _together([boxes for boxes, _ in levels])
    first = np.concatenate([ranks for _, ranks in levels])
    best = np.sort(np.argsort(-first, kind='stable')[: post.total])
    real = together.pick(best).real()
    return suppress(real, post.overlap, post.keep)


def propose(
    post: PostProcess,
    outputs: Sequence[Sequence[np.ndarray]],
    size: tuple[int, int],
) -> np.ndarray:
    """Return proposals for a second stage, in 256ths of a pixel.

    Args:
        post, outputs, size: As of :func:`detect`; boxes of one level
            suppress each other, as those of one class do there.

    Returns:
        np.ndarray: int64 (N, 4).
    """
    levels = []
    for number, maps in enumerate(zip(*outputs, strict=True)):
        boxes, _ = level_boxes(post, number, maps, size)
        levels.append(replace(boxes, labels=boxes.labels + number))
    real = _together(levels).real()
    return suppress(real, post.overlap, post.keep).corners


def _together(levels: Sequence[Boxes]) -> Boxes:
    return Boxes(
        *(
            np.concatenate([getattr(boxes, name) for boxes in levels])
            for name in ('corners', 'labels', 'ranks')
        )
    )


def rescaled(
    edges: np.ndarray, size: tuple[int, int], original: tuple[int, int]
) -> np.ndarray:
    """Return corners in 256ths of a pixel of the original image.

    Args:
        edges: In 256ths of a pixel of the network's, int64 (N, 4).
        size: Height and width of the network's image before its border.
        original: Height and width of the image that was given.
    """
    to, back = (np.array([s[1], s[0]] * 2, np.int64) for s in (size, original))
    wide = (2 * edges * back + to) // (2 * to)
    return np.clip(wide, -(2**31), 2**31 - 1)
