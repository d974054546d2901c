"""An executor of `model.aqd`, written from the two documents alone.

It follows `docs/integer_contract.md` line by line and imports nothing of
`aqd_mmdet`. It is there to be compared with, not to be fast. All arrays are
int64; section numbers are those of the contract.
"""

from math import isqrt
from typing import NamedTuple

import numpy as np

from tests.specification import records as of
from tests.specification.network import (
    Size,
    demand,
    network_image,
    requantize,
    run,
)
from tests.specification.records import Integers


class Candidate(NamedTuple):
    """A class at a place and prior, with its box."""

    edges: Integers
    group: int  # only boxes of one group suppress each other
    label: int
    chosen: int  # the rank that chooses
    rank: int  # the rank that orders
    shown: int


class Detections(NamedTuple):
    """What is found (section 7.5), best first."""

    edges: Integers  # [n, 4] in 256ths of a pixel: x0, y0, x1, y1
    labels: Integers  # [n]
    scores: Integers  # [n] in Q24


def detect(detector: of.Detector, image: Integers) -> Detections:
    """Find the objects of one image.

    Args:
        detector: What `reader.read` returned.
        image: RGB, uint8[height, width, 3].

    Raises:
        ValueError: The image, or the size of a tensor, is refused.
    """
    pixels, size = network_image(
        detector.preprocess, detector.program.stride, image
    )
    outputs = run(detector.program, pixels)
    kept = candidates(detector, outputs, size)
    if detector.regions:
        kept = refine(detector, outputs, kept, size)
    original = image.shape[:2]
    edges = np.array([each.edges for each in kept], np.int64).reshape(-1, 4)
    return Detections(
        back(edges, size, (original[0], original[1])),
        np.array([each.label for each in kept], np.int64),
        np.array([each.shown for each in kept], np.int64),
    )


def rounded(x: Integers, n: int) -> Integers:
    return (x + (1 << (n - 1))) >> n


# Section 7: from the network to boxes


def candidates(
    detector: of.Detector, outputs: list[list[Integers]], size: Size
) -> list[Candidate]:
    """What is kept of the candidates of all levels (7.1 to 7.4)."""
    how = detector.postprocess
    kinds = 3 if isinstance(how.scores, of.WithFactors) else 2
    found: list[Candidate] = []
    for n in range(len(how.decoder.levels)):
        maps = [tensors[n] for tensors in outputs[:kinds]]
        demand(len({each.shape[1:] for each in maps}) == 1, 'a map')
        found += of_level(detector, n, maps, size)
    if not detector.regions:
        best = sorted(range(len(found)), key=lambda i: -found[i].chosen)
        found = [found[i] for i in sorted(best[: how.total])]
    return suppress(found, how.overlap, how.keep)


def of_level(
    detector: of.Detector, n: int, maps: list[Integers], size: Size
) -> list[Candidate]:
    """The candidates of level `n`, the best first, with limited boxes."""
    how = detector.postprocess
    classes = 1 if detector.regions else len(detector.labels)
    entries = classes + isinstance(how.scores, of.Softmax)
    logits, codes = maps[0].transpose(1, 2, 0), maps[1].transpose(1, 2, 0)
    height, width, priors = *logits.shape[:2], logits.shape[2] // entries
    logits = logits.reshape(height, width, priors, entries)
    codes = codes.reshape(height, width, priors, -1)
    factors = logits
    if isinstance(how.scores, of.WithFactors):
        factors = maps[2].transpose(1, 2, 0).reshape(height, width, priors, 1)
    chosen, rank, allowed = ranks(how.scores, logits, factors)
    allowed &= chosen >= how.threshold
    picked = np.flatnonzero(allowed)
    order = np.argsort(-chosen.ravel()[picked], kind='stable')
    picked = picked[order][: how.candidates]
    y, x, prior, label = np.unravel_index(picked, chosen.shape)
    boxes = decode(how.decoder, n, codes[y, x, prior], y, x, prior)
    edges = limited(boxes, how.margin, size)
    shown = shown_scores(how.scores, rank.ravel()[picked])
    group = np.full_like(label, n) if detector.regions else label
    return [
        Candidate(edges[i], group[i], label[i], a, b, shown[i])
        for i, (a, b) in enumerate(
            zip(chosen.ravel()[picked], rank.ravel()[picked], strict=True)
        )
    ]


def ranks(
    scores: of.Scores, logits: Integers, factors: Integers
) -> tuple[Integers, Integers, Integers]:
    """The rank that chooses, the rank that orders, and who may be chosen."""
    every = np.ones(logits.shape, bool)
    match scores:
        case of.Sigmoid():
            return logits, logits, every
        case of.Softmax():
            x = requantize(logits, scores.logits, -(1 << 30), 1 << 30)
            share = shares(x, scores.exp)[..., :-1]
            return share, share, every[..., :-1]
    product = sigmoid(logits, scores.logits, scores.curve) * sigmoid(
        factors, scores.factors, scores.curve
    )
    match scores:
        case of.Product():
            return logits, product, every & (factors >= scores.least)
        case of.BestClass():
            best = logits.argmax(axis=-1)[..., None]
            return product, product, np.arange(logits.shape[-1]) == best
    return product, product, every


def sigmoid(x: Integers, table: of.Multipliers, curve: of.Curve) -> Integers:
    return curve(requantize(x, table, -(1 << 20), 1 << 20))


def shares(x: Integers, exp: of.Curve) -> Integers:
    """Softmax along the last axis, in Q24."""
    largest = x.max(axis=-1, keepdims=True)
    e = exp(np.maximum(x - largest, -(1 << 20)))
    return (e << 24) // e.sum(axis=-1, keepdims=True)


def shown_scores(scores: of.Scores, rank: Integers) -> Integers:
    match scores:
        case of.Sigmoid():
            return sigmoid(rank, scores.logits, scores.curve)
        case of.Product() | of.BestClass() | of.Joint():
            return rounded(rank, 24)
        case of.GeometricMean():
            return np.array([isqrt(int(each)) for each in rank], np.int64)
    return rank


def decode(
    decoder: of.Decoder,
    n: int,
    code: Integers,
    y: Integers,
    x: Integers,
    prior: Integers,
) -> Integers:
    """The boxes [k, 4] in Q12 of `k` candidates of level `n` (7.2)."""
    sy, sx = decoder.levels[n].stride
    place = np.stack([(x * sx) << 12, (y * sy) << 12], axis=1)
    match decoder:
        case of.Anchors():
            anchor = decoder.levels[n].base[prior]
            d = requantize(code, decoder.deltas, -(1 << 22), 1 << 22)
            moved = rounded(d[:, :2] * anchor[:, 2:], 16)
            centre = anchor[:, :2] + place + moved
            return around(centre, d, anchor, decoder.limit, decoder.exp)
        case of.Cells():
            anchor = decoder.levels[n].base[prior]
            d = requantize(code, decoder.codes, -(1 << 20), 1 << 20)
            moved = (decoder.sigmoid(d[:, :2]) - (1 << 15)) * [sx, sy]
            centre = anchor[:, :2] + place + rounded(moved, 4)
            return around(centre, d, anchor, decoder.limit, decoder.exp)
        case of.Points():
            table = decoder.distances[n]
            d = requantize(code, table, -(1 << 26), 1 << 26)
        case of.Exponents():
            limit = decoder.limit
            v = requantize(code, decoder.codes, -limit, limit)
            d = rounded(decoder.exp(v) * decoder.edges[n], 16)
        case of.Bins():
            v = requantize(code, decoder.codes, -(1 << 30), 1 << 30)
            v = v.reshape(-1, 4, decoder.bins)
            largest = v.max(axis=-1, keepdims=True)
            e = decoder.exp(np.maximum(v - largest, -(1 << 20)))
            t = e.sum(axis=-1)
            means = (e * np.arange(decoder.bins)).sum(axis=-1) * sy << 12
            d = (means + (t >> 1)) // t
    point = place + np.array(decoder.levels[n].offset)[::-1]
    return np.concatenate([point - d[:, :2], point + d[:, 2:]], axis=1)


def around(
    centre: Integers, d: Integers, anchor: Integers, limit: int, exp: of.Curve
) -> Integers:
    """The boxes around centres, with the sides of anchors that have grown."""
    e = exp(np.clip(d[:, 2:], -limit, limit))
    sides = rounded(e * anchor[:, 2:], 16)
    first = centre - (sides >> 1)
    return np.concatenate([first, first + sides], axis=1)


def limited(boxes: Integers, margin: int, size: Size) -> Integers:
    """From Q12 to 256ths of a pixel, inside the image (7.3)."""
    near = -max(margin, 0) << 12
    far = (sides(size) + margin) << 12
    return rounded(np.clip(boxes, near, far), 4)


def suppress(
    found: list[Candidate], overlap: int, keep: int
) -> list[Candidate]:
    """Section 7.4, and boxes without width or height before it (7.3)."""
    kept: list[Candidate] = []
    for box in sorted(found, key=lambda each: -each.rank):
        if len(kept) == keep:
            break
        x0, y0, x1, y1 = box.edges
        if x1 <= x0 or y1 <= y0:
            continue
        if not any(
            box.group == other.group
            and overlaps(box.edges, other.edges, overlap)
            for other in kept
        ):
            kept.append(box)
    return kept


def overlaps(a: Integers, b: Integers, overlap: int) -> bool:
    ax0, ay0, ax1, ay1 = (int(v) for v in a)
    bx0, by0, bx1, by1 = (int(v) for v in b)
    width = min(ax1, bx1) - max(ax0, bx0)
    height = min(ay1, by1) - max(ay0, by0)
    shared = max(width, 0) * max(height, 0)
    areas = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0)
    return shared << 16 > overlap * (areas - shared)


def back(edges: Integers, size: Size, original: Size) -> Integers:
    """Edges of the resized image as edges of the given one (7.5)."""
    to = sides(size)
    taken = (2 * edges * sides(original) + to) // (2 * to)
    return np.clip(taken, -(1 << 31), (1 << 31) - 1)


def sides(size: Size) -> Integers:
    """Width, height, width, height: what belongs to the edges of a box."""
    return np.array([size[1], size[0]] * 2)


# Section 8: second stages


def refine(
    detector: of.Detector,
    outputs: list[list[Integers]],
    proposals: list[Candidate],
    size: Size,
) -> list[Candidate]:
    """The detections that the stages make of proposals."""
    how, classes = detector.regions, len(detector.labels)
    assert how
    if not proposals:
        return []
    regions = np.stack([proposal.edges for proposal in proposals])
    total = np.zeros((len(regions), classes + 1), np.int64)
    for k, stage in enumerate(how.stages):
        logits, codes = look_at(stage, outputs[stage.features], regions)
        codes = np.broadcast_to(
            codes.reshape(len(regions), -1, 4), (len(regions), classes, 4)
        )
        total += requantize(logits, stage.logits, -(1 << 30), 1 << 30)
        if k < len(how.stages) - 1:
            best = logits[:, :-1].argmax(axis=1)
            code = codes[np.arange(len(regions)), best]
            regions = refined(how, stage, regions, code, size)
    stages = len(how.stages)
    scores = shares((2 * total + stages) // (2 * stages), how.powers)
    found = []
    boxes = [
        refined(how, stage, regions, codes[:, label], size)
        for label in range(classes)
    ]
    for i, score in enumerate(scores.tolist()):
        for c in range(classes):
            if score[c] >= how.threshold:
                rank = score[c]
                found.append(Candidate(boxes[c][i], c, c, rank, rank, rank))
    return suppress(found, how.overlap, how.keep)


def look_at(
    stage: of.RegionStage, maps: list[Integers], regions: Integers
) -> tuple[Integers, Integers]:
    """Logits and box codes of each region, [regions, channels] (8.3)."""
    logits, codes = [], []
    for edges in regions.tolist():
        n = level_of(stage, edges)
        read = averages(stage, maps[n], stage.strides[n], edges)
        outputs = run(stage.program, read)
        logits.append(outputs[0][0].ravel())
        codes.append(outputs[1][0].ravel())
    return np.stack(logits), np.stack(codes)


def level_of(stage: of.RegionStage, edges: list[int]) -> int:
    x0, y0, x1, y1 = edges
    area = (x1 - x0) * (y1 - y0)
    return sum(
        area >= (stage.finest * 2**k * 256) ** 2
        for k in range(1, len(stage.strides))
    )


def averages(
    stage: of.RegionStage, feature: Integers, stride: int, edges: list[int]
) -> Integers:
    """RoIAlign of one region, [channels, bins, bins] (8.2)."""
    x0, y0, x1, y1 = edges
    height, width = feature.shape[1:]
    rows, row_count = axis_weight(stage, y0, y1, height, stride)
    columns, column_count = axis_weight(stage, x0, x1, width, stride)
    total = rows @ feature @ columns.T
    n = row_count * column_count * 256
    return (2 * total + n) // (2 * n)


def axis_weight(
    stage: of.RegionStage, low: int, high: int, length: int, stride: int
) -> tuple[Integers, int]:
    """What each pixel of an axis counts in each bin, and samples of a bin."""
    bins = stage.bins
    weight = np.zeros((bins, length), np.int64)
    pixels = -((low - high) // (bins * stride * 256))
    count = stage.samples or max(1, pixels)
    for i in range(bins):
        for j in range(count):
            a = low * 2 * bins * count
            a += (high - low) * (2 * (i * count + j) + 1)
            d = 2 * bins * count * stride
            p = (2 * a + d) // (2 * d) - 128
            if -256 <= p <= 256 * length:
                p = min(max(p, 0), 256 * (length - 1))
                k, f = p >> 8, p & 255
                weight[i, k] += 256 - f
                weight[i, min(k + 1, length - 1)] += f
    return weight, count


def refined(
    how: of.Regions,
    stage: of.RegionStage,
    regions: Integers,
    code: Integers,
    size: Size,
) -> Integers:
    """Regions that are moved by a box code each, and limited (8.4)."""
    first, last = regions[:, :2], regions[:, 2:]
    anchor = np.concatenate([(first + last) << 3, (last - first) << 4], axis=1)
    d = requantize(code, stage.deltas, -(1 << 22), 1 << 22)
    centre = anchor[:, :2] + rounded(d[:, :2] * anchor[:, 2:], 16)
    return limited(around(centre, d, anchor, how.limit, how.exp), 0, size)
