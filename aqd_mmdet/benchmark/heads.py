"""Reads what is around a float detector's network, for the peers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiler.compile import read_test_preprocess
from ..errors import UserError
from .candidates import CANDIDATES
from .detectors import FloatDetector, folded, normalised
from .pipeline import Decoding, Pipeline

# An offset of logits beyond which all scores are 0 or 1, and the steps of the
# search between.
FARTHEST, STEPS = 30.0, 40


@dataclass(frozen=True)
class Head:
    """How a kind of head makes boxes.

    Attributes:
        scores: Key of :data:`pipeline.SELECT`.
        deltas: As of :class:`pipeline.Decoding`.
        output: Index of the output whose offset says how many candidates
            there are.
        layers: Returns the convolutions that make that output.
        channels: Those of its channels that are offset.
        sign: Of an offset that makes more candidates.
    """

    scores: str
    deltas: bool
    output: int
    layers: Callable[[Any], Sequence[Any]]
    channels: Callable[[Any], slice]
    sign: int


def _all(head: Any) -> slice:
    return slice(None)


def _backgrounds(head: Any) -> slice:
    return slice(head.num_classes, None, head.num_classes + 1)


HEADS = {
    'RetinaHead': Head('sigmoid', True, 0, lambda x: [x.retina_cls], _all, 1),
    'FCOSHead': Head('product', False, 0, lambda x: [x.conv_cls], _all, 1),
    'YOLOXHead': Head(
        'best class', True, 2, lambda x: x.multi_level_conv_obj, _all, 1
    ),
    'RTMDetSepBNHead': Head('sigmoid', False, 0, lambda x: x.rtm_cls, _all, 1),
    'SSDHead': Head(
        'softmax',
        True,
        0,
        lambda x: [branch[-1] for branch in x.cls_convs],
        _backgrounds,
        -1,
    ),
}


def head_of(detector: Any) -> Head:
    """Return how a detector's head makes boxes.

    Args:
        detector: A float detector.

    Raises:
        UserError: If the benchmark does not know it.
    """
    name = type(getattr(detector, 'bbox_head', None)).__name__
    if name not in HEADS:
        raise UserError(
            f'{name}: the peers have no boxes of it; there are those of '
            f'{", ".join(HEADS)}'
        )
    return HEADS[name]


def read_decoding(detector: Any, sizes: Sequence[tuple[int, int]]) -> Decoding:
    """Return how a float detector's maps become boxes.

    Args:
        detector: The detector.
        sizes: Height and width of each level's maps.
    """
    kind, head = head_of(detector), detector.bbox_head
    cfg = head.test_cfg
    most = np.iinfo(np.int64).max
    levels = [_centred(x) for x in _priors(head, sizes)]
    anchors = tuple(head.prior_generator.num_base_priors)
    is_anchor = hasattr(head.prior_generator, 'base_anchors')
    return Decoding(
        kind.scores,
        kind.deltas,
        anchors,
        tuple(
            # From places, then anchors, to anchors, then places.
            x.reshape(-1, count, 4).swapaxes(0, 1).reshape(-1, 4)
            for x, count in zip(levels, anchors, strict=True)
        ),
        np.array(head.bbox_coder.stds if is_anchor else [1] * 4, np.float32),
        abs(math.log(16 / 1000)) if is_anchor else math.inf,
        # YOLOX leaves them beyond the image.
        kind.scores != 'best class',
        cfg.score_thr,
        cfg.nms.iou_threshold,
        cfg.get('nms_pre', most),
        cfg.get('max_per_img', most),
    )


def _priors(head: Any, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    generator = head.prior_generator
    if hasattr(generator, 'base_anchors'):
        levels = generator.grid_priors(sizes, device='cpu')
    else:
        levels = generator.grid_priors(sizes, device='cpu', with_stride=True)
        # Points have no size: mmdet takes the stride.
        levels = [_square(x) for x in levels]
    return [x.numpy() for x in levels]


def _square(points: Tensor) -> Tensor:
    """Return corners of points, each with its strides."""
    centre, half = points[:, :2], points[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)


def _centred(corners: np.ndarray) -> np.ndarray:
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], 1)


@torch.no_grad()
def set_candidates(detector: Any, images: Tensor) -> Decoding:
    """Let most of what a detector with random weights scores be background.

    An offset is added to biases, so that pictures have :data:`CANDIDATES` on
    the mean. So few places have a high objectness, as of trained detectors.

    Args:
        detector: The detector, changed in place.
        images: As the network is given them, float (N, 3, H, W).

    Returns:
        Decoding: How its maps become boxes.
    """
    head = head_of(detector)
    channels = head.channels(detector.bbox_head)
    outputs = detector(images, mode='tensor')
    logits = outputs[head.output]
    decoding = read_decoding(detector, [x.shape[2:] for x in logits])
    maps = [x.numpy() for levels in outputs for x in levels]
    low, high, offset = -FARTHEST, FARTHEST, 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        for level in logits:
            level[:, channels] += head.sign * (middle - offset)
        offset = middle
        if _count(decoding, maps) > CANDIDATES * len(images):
            high = middle
        else:
            low = middle
    # Levels may share a layer.
    for layer in dict.fromkeys(head.layers(detector.bbox_head)):
        layer.bias[channels] += head.sign * offset
    return decoding


def _count(decoding: Decoding, maps: list[np.ndarray]) -> int:
    return sum(
        len(level.scores)
        for index in range(len(maps[0]))
        for level in decoding.candidates_of(
            [x[index : index + 1] for x in maps]
        )
    )


def byte_table(detector: Any, grid: tuple[float, int] | None) -> np.ndarray:
    """Return what a detector's network reads instead of bytes, (3, 256).

    Args:
        detector: The float detector.
        grid: Scale and zero point of the codes that its int8 network reads;
            None for the float network.
    """
    pixels = torch.arange(256.0).expand(3, 1, 256)
    table = normalised(detector, pixels).reshape(3, 256).numpy()
    if grid is None:
        return np.ascontiguousarray(table)
    scale, zero = grid
    return (np.rint(table / scale) + zero).clip(0, 255).astype(np.uint8)


@torch.no_grad()
def read_pipeline(
    floating: FloatDetector, grid: tuple[float, int] | None
) -> Pipeline:
    """Return what is around the network of a float detector.

    Args:
        floating: The detector.
        grid: As of :func:`byte_table`.
    """
    detector = floating.detector
    pre = read_test_preprocess(
        folded(detector).data_preprocessor, floating.cfg
    )
    height, width = floating.images.shape[2:]
    maps = detector(floating.images[:1], mode='tensor')[0]
    decoding = read_decoding(detector, [x.shape[2:] for x in maps])
    table = byte_table(detector, grid)
    return Pipeline((height, width), pre, table, decoding)
