"""From proposals to boxes on integers: docs/integer_contract.md, section 8."""

from collections.abc import Callable, Sequence

import numpy as np

from ..program.detector import (
    BOX_BITS,
    DELTA_BITS,
    GEOMETRY_BITS,
    Regions,
    RegionStage,
)
from ..program.ops import MEAN_BITS, Program
from .boxes import MAX_DELTA, grown
from .curves import fixed, rounded
from .postprocess import Boxes, suppress
from .scores import shares

# Runs a program on a batch and returns its outputs by name.
Run = Callable[[Program, np.ndarray], dict[str, np.ndarray]]

# Of a position between two pixels of a map.
WEIGHT_BITS = 8
ONE = 1 << WEIGHT_BITS
MAX_LOGIT = 1 << 30


def levels_of(stage: RegionStage, boxes: np.ndarray) -> np.ndarray:
    """Return the index of the map that each region reads, int64 (N,).

    Args:
        stage: The stage.
        boxes: In 256ths of a pixel, int64 (N, 4).
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    first = stage.finest << BOX_BITS
    least = [(first << k) ** 2 for k in range(1, len(stage.strides))]
    return np.searchsorted(np.array(least, np.int64), areas, 'right')


def axis_weights(
    low: int, high: int, stride: int, bins: int, samples: int, length: int
) -> tuple[np.ndarray, int]:
    """Return how much each pixel of an axis counts in each bin.

    Args:
        low: First edge of the region, in 256ths of a pixel of the image.
        high: Its other edge.
        stride: Of the map.
        bins: Bins of the axis.
        samples: Of a bin; 0 for as many as it has pixels of the map.
        length: Pixels of the axis.

    Returns:
        tuple: int64 (bins, length), in 256ths; samples of a bin.
    """
    count = samples or max(1, -(-(high - low) // (bins * stride * ONE)))
    number = np.arange(bins * count)
    halves = 2 * bins * count
    above = low * halves + (high - low) * (2 * number + 1)
    below = halves * stride
    # Pixels' centres are half a pixel inside.
    at = (2 * above + below) // (2 * below) - ONE // 2
    inside = (at >= -ONE) & (at <= length * ONE)
    at = np.clip(at, 0, (length - 1) * ONE)
    pixel, part = at >> WEIGHT_BITS, at & (ONE - 1)
    weights = np.zeros((bins, length), np.int64)
    row = number // count
    np.add.at(weights, (row, pixel), np.where(inside, ONE - part, 0))
    neighbour = np.minimum(pixel + 1, length - 1)
    np.add.at(weights, (row, neighbour), np.where(inside, part, 0))
    return weights, count


def align(
    stage: RegionStage, maps: Sequence[np.ndarray], boxes: np.ndarray
) -> np.ndarray:
    """Return averages of regions (RoIAlign), with 8 fractional bits.

    Args:
        stage: The stage.
        maps: Codes of each level, integers (C, H, W).
        boxes: In 256ths of a pixel, int64 (N, 4).

    Returns:
        np.ndarray: int32 (N, C, bins, bins).
    """
    bins = stage.bins
    means = np.zeros((len(boxes), len(maps[0]), bins, bins), np.int32)
    levels = levels_of(stage, boxes)
    for number, (box, level) in enumerate(zip(boxes, levels, strict=True)):
        codes, total = maps[level], 1
        read = []
        for axis in (1, 0):
            weights, count = axis_weights(
                int(box[axis]),
                int(box[axis + 2]),
                stage.strides[level],
                bins,
                stage.samples,
                codes.shape[2 - axis],
            )
            # Nothing but the region is read.
            used = np.flatnonzero(weights.any(0))
            part = slice(*(used[[0, -1]] + [0, 1])) if len(used) else slice(0)
            read.append((weights[:, part], part))
            total *= count
        (down, rows), (across, columns) = read
        window = codes[:, rows, columns].astype(np.int64)
        sums = down @ window @ across.T
        divisor = total << (2 * WEIGHT_BITS - MEAN_BITS)
        means[number] = (2 * sums + divisor) // (2 * divisor)
    return means


def refine(
    regions: Regions,
    stage: RegionStage,
    boxes: np.ndarray,
    codes: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Return moved and grown boxes in 256ths of a pixel, int64 (N, 4).

    Args:
        regions: All stages.
        stage: Of these, the one that the codes are from.
        boxes: Regions, int64 (N, 4).
        codes: Their box codes, int64 (N, 4).
        size: Height and width of the image before its border.
    """
    up = GEOMETRY_BITS - BOX_BITS
    sides = (boxes[:, 2:] - boxes[:, :2]) << up
    centre = (boxes[:, :2] + boxes[:, 2:]) << (up - 1)
    deltas = fixed(codes, stage.deltas, -MAX_DELTA, MAX_DELTA)
    moved = centre + rounded(deltas[:, :2] * sides, DELTA_BITS)
    grew = grown(deltas[:, 2:], sides, regions.limit, regions.exp)
    corner = moved - (grew >> 1)
    wide = np.concatenate([corner, corner + grew], 1)
    far = np.array([size[1], size[0]] * 2, np.int64) << GEOMETRY_BITS
    return rounded(np.clip(wide, 0, far), up)


def detect_regions(
    regions: Regions,
    features: Sequence[Sequence[np.ndarray]],
    boxes: np.ndarray,
    size: tuple[int, int],
    run: Run,
) -> Boxes:
    """Return the boxes of one image.

    Args:
        regions: Parameters.
        features: Maps that each stage reads, integers (C, H, W).
        boxes: Proposals in 256ths of a pixel, int64 (N, 4).
        size: Height and width of the network's image before its border.
        run: Runs the stages' programs.
    """
    total = np.zeros((), np.int64)
    for stage, maps in zip(regions.stages, features, strict=True):
        if not len(boxes):
            break
        outputs = run(stage.program, align(stage, maps, boxes))
        logits, codes = (
            outputs[out.tensors[0]].astype(np.int64).reshape(len(boxes), -1)
            for out in stage.program.outputs
        )
        total = total + fixed(logits, stage.logits, -MAX_LOGIT, MAX_LOGIT)
        # Of each class, or of all alike.
        by_class = codes.reshape(len(boxes), -1, 4)
        if stage is not regions.stages[-1]:
            best = logits[:, :-1].argmax(1) % by_class.shape[1]
            chosen = by_class[np.arange(len(boxes)), best]
            boxes = refine(regions, stage, boxes, chosen, size)
    if not len(boxes):
        return Boxes(boxes, boxes[:, 0], boxes[:, 0])
    count = len(regions.stages)
    scores = shares((2 * total + count) // (2 * count), regions.powers)
    ranks = scores[:, :-1].reshape(-1)
    index = np.flatnonzero(ranks >= regions.threshold)
    place, label = np.divmod(index, scores.shape[1] - 1)
    chosen = by_class[place, label % by_class.shape[1]]
    last = refine(regions, stage, boxes[place], chosen, size)
    found = Boxes(last, label, ranks[index])
    return suppress(found.real(), regions.overlap, regions.keep)
