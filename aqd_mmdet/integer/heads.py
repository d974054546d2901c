"""What precedes and follows a detector's network, as integers.

Read from the detector's own parts by what they offer (a prior generator, a
coder of boxes, a test config), not by their classes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import nn

from ..errors import UserError
from .detector import (
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
    PreProcess,
    Product,
    Sigmoid,
)
from .fixed_point import FixedPoint, real_multipliers
from .program import Program

# Distance of a curve's values as a power of two of Q16 units: linear
# interpolation between exponentials 1/256 apart is wrong by 2e-6 of the
# value, between sigmoids 1/64 apart by 3e-6.
EXP_BITS, SIGMOID_BITS = 8, 10
MAX_LOGIT = 16
# As many as a program may say; levels have fewer.
MAX_CANDIDATES = 2**20


def image_mean(detector: nn.Module) -> tuple[int, ...]:
    """Return the integer mean that a detector's images are freed of.

    Raises:
        UserError: If its normalisation is not a difference of integers.
    """
    pre: Any = detector.data_preprocessor
    mean = [float(x) for x in pre.mean.flatten()]
    std = [float(x) for x in pre.std.flatten()]
    if any(x != int(x) for x in mean) or any(x != 1 for x in std):
        raise UserError(
            f'data_preprocessor has mean={mean} and std={std}: a program '
            'reads pixels minus whole numbers; set them as '
            'configs/_base_/retinanet_bn.py does'
        )
    return tuple(int(x) for x in mean)


def read_preprocess(detector: nn.Module, pipeline: Any) -> PreProcess:
    """Return how images are brought to the network's size.

    Args:
        detector: The detector.
        pipeline: The config's list of transforms for testing.

    Raises:
        UserError: If images are not resized with their ratio kept.
    """
    resizes = [t for t in pipeline if str(t['type']).endswith('Resize')]
    if len(resizes) != 1 or not resizes[0].get('keep_ratio'):
        raise UserError(
            'the test pipeline has no single Resize with keep_ratio=True: '
            'the program has no other way to resize'
        )
    scale = resizes[0]['scale']
    pre: Any = detector.data_preprocessor
    # mmdet reads images as BGR and exchanges channels where it is told to.
    return PreProcess(min(scale), max(scale), not pre._channel_conversion)


def read_postprocess(
    detector: nn.Module, program: Program, fixed_point: FixedPoint
) -> PostProcess:
    """Return a dense head's decoding and suppression.

    Args:
        detector: A detector with a ``bbox_head`` that decodes and suppresses
            as mmdet's ``BaseDenseHead`` does.
        program: Its network.
        fixed_point: Width of multipliers.

    Raises:
        UserError: If the head decodes in another way.
    """
    head: Any = detector.bbox_head
    _need_base_methods(head)
    coder: Any = head.bbox_coder
    read = _DECODERS.get(type(coder).__name__)
    if read is None:
        raise UserError(
            f'the head {type(head).__name__} codes boxes by '
            f'{type(coder).__name__}: the program has no integers for it'
        )
    cfg = head.test_cfg
    nms = cfg['nms']
    if nms.get('type', 'nms') != 'nms' or nms.get('class_agnostic'):
        raise UserError(f"test_cfg.nms={dict(nms)}: give type 'nms', by class")
    if cfg.get('min_bbox_size', 0) > 0:
        raise UserError('test_cfg.min_bbox_size: a program drops none but 0')
    scales = [out.scale for out in program.outputs]
    threshold = np.log(cfg['score_thr'] / (1 - cfg['score_thr']))
    candidates = int(cfg.get('nms_pre', -1))
    return PostProcess(
        decoder=read(head, program, fixed_point),
        scores=_scores(scales, fixed_point),
        # The first logit whose sigmoid is above the score's threshold.
        threshold=int(np.floor(threshold / scales[0])) + 1,
        candidates=candidates if candidates > 0 else MAX_CANDIDATES,
        overlap=round(nms['iou_threshold'] * 2**OVERLAP_BITS),
        keep=int(cfg['max_per_img']),
    )


def _need_base_methods(head: Any) -> None:
    """Raise if a head has a way of its own from maps to boxes."""
    for name in (
        'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process',
    ):  # fmt: skip
        found = getattr(type(head), name, None)
        if found is not getattr(BaseDenseHead, name):
            raise UserError(
                f'the head {type(head).__name__} has a {name} of its own: '
                'the program has no integers for it'
            )
    if not head.use_sigmoid_cls:
        raise UserError(
            f'the head {type(head).__name__} has a softmax: the program has '
            'no integers for it'
        )


def _scores(scales: list[float], fixed_point: FixedPoint) -> Sigmoid | Product:
    one = 1 << DELTA_BITS
    curve = _curve(
        lambda x: 1 / (1 + np.exp(-x)),
        MAX_LOGIT * one,
        SIGMOID_BITS,
        2**SCORE_BITS,
    )
    logits, *factors = (
        real_multipliers(scale * one, 0.0, fixed_point)
        for scale in (scales[0], *scales[2:])
    )
    if factors:
        return Product(logits, factors[0], curve)
    return Sigmoid(logits, curve)


def _delta_anchors(
    head: Any, program: Program, fixed_point: FixedPoint
) -> Anchors:
    coder = head.bbox_coder
    if coder.add_ctr_clamp:
        raise UserError(
            'bbox_coder.add_ctr_clamp: a program has no such clamp'
        )
    one = 1 << DELTA_BITS
    limit = round(abs(np.log(16 / 1000)) * one)
    out = program.outputs[1]
    return Anchors(
        tuple(
            _anchors(head.prior_generator, i) for i in range(len(out.tensors))
        ),
        real_multipliers(
            out.scale * np.array(coder.stds) * one,
            np.array(coder.means) * one,
            fixed_point,
        ),
        limit,
        _curve(np.exp, limit, EXP_BITS, one),
    )


def _distance_points(
    head: Any, program: Program, fixed_point: FixedPoint
) -> Points:
    generator = head.prior_generator
    one = 1 << GEOMETRY_BITS
    # The head's maps are in pixels already.
    distances = real_multipliers(
        program.outputs[1].scale * one, 0, fixed_point
    )
    return Points(
        tuple(
            PointLevel(
                (int(down), int(across)),
                (
                    round(generator.offset * down * one),
                    round(generator.offset * across * one),
                ),
                distances,
            )
            for across, down in generator.strides
        )
    )


# By the name of the class that codes boxes.
_DECODERS: dict[str, Callable[..., Anchors | Points]] = {
    'DeltaXYWHBBoxCoder': _delta_anchors,
    'DistancePointBBoxCoder': _distance_points,
}


def _anchors(generator: Any, level: int) -> AnchorLevel:
    corners = generator.base_anchors[level].double().numpy()
    low, high = corners[:, :2], corners[:, 2:]
    base = np.concatenate([(low + high) / 2, high - low], 1)
    across, down = generator.strides[level]
    return AnchorLevel(
        (int(down), int(across)),
        np.floor(base * 2**GEOMETRY_BITS + 0.5).astype(np.int32),
    )


def _curve(function: Any, limit: int, bits: int, unit: int) -> Curve:
    # One step below the range and one above it, so that both ends of the
    # range lie between two values.
    step = 1 << bits
    first = -(limit // step + 1) * step
    count = 2 * (limit // step + 1) + 2
    at = (first + step * np.arange(count)) / 2**DELTA_BITS
    values = np.floor(function(at) * unit + 0.5)
    return Curve(values.astype(np.int32), first, bits)
