"""What precedes and follows a detector's network, as integers.

Read from the detector's own parts by what they offer (a prior generator, a
coder of boxes, a test config), not by their classes.
"""

from typing import Any

import numpy as np
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
    PostProcess,
    PreProcess,
)
from .fixed_point import FixedPoint, real_multipliers
from .program import Program

# Distance of a curve's values as a power of two of Q16 units: linear
# interpolation between exponentials 1/256 apart is wrong by 2e-6 of the
# value, between sigmoids 1/64 apart by 3e-6.
EXP_BITS, SIGMOID_BITS = 8, 10
MAX_LOGIT = 16


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
        detector: A detector with a ``bbox_head`` of anchors and deltas.
        program: Its network.
        fixed_point: Width of multipliers.

    Raises:
        UserError: If the head decodes in another way.
    """
    head: Any = detector.bbox_head
    coder: Any = getattr(head, 'bbox_coder', None)
    name = type(coder).__name__
    if name != 'DeltaXYWHBBoxCoder':
        raise UserError(
            f'the head {type(head).__name__} decodes boxes by {name}: the '
            'program has no integers for it yet'
        )
    if coder.add_ctr_clamp or not head.use_sigmoid_cls:
        raise UserError(
            f'the head {type(head).__name__} has add_ctr_clamp or a softmax: '
            'the program has no integers for it yet'
        )
    cfg = head.test_cfg
    nms = cfg['nms']
    if nms.get('type', 'nms') != 'nms':
        raise UserError(f"test_cfg.nms.type={nms['type']!r}: give 'nms'")
    logits, boxes = (out.scale for out in program.outputs)
    threshold = np.log(cfg['score_thr'] / (1 - cfg['score_thr']))
    one = 1 << DELTA_BITS
    limit = round(abs(np.log(16 / 1000)) * one)
    decoder = Anchors(
        tuple(_anchors(head.prior_generator, i) for i in range(
            len(program.outputs[0].tensors)
        )),
        real_multipliers(
            boxes * np.array(coder.stds) * one,
            np.array(coder.means) * one,
            fixed_point,
        ),
        limit,
        _curve(np.exp, limit, EXP_BITS, one),
    )  # fmt: skip
    return PostProcess(
        decoder=decoder,
        # The first logit whose sigmoid is above the score's threshold.
        threshold=int(np.floor(threshold / logits)) + 1,
        candidates=int(cfg.get('nms_pre', 1000)),
        overlap=round(nms['iou_threshold'] * 2**OVERLAP_BITS),
        keep=int(cfg['max_per_img']),
        logits=real_multipliers(np.array([logits * one]), 0, fixed_point),
        sigmoid=_curve(
            lambda x: 1 / (1 + np.exp(-x)),
            MAX_LOGIT * one,
            SIGMOID_BITS,
            2**SCORE_BITS,
        ),
    )


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
