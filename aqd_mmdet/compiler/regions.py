"""What follows the proposals of a two-stage detector, as integers."""

from dataclasses import dataclass
from math import floor, log
from typing import Any

import numpy as np
from torch import nn

from ..errors import UserError
from ..program import ops as ir
from ..program.detector import (
    DELTA_BITS,
    SCORE_BITS,
    Regions,
    RegionStage,
)
from ..program.fixed_point import FixedPoint, real_multipliers
from .box_coders import check_deltas, to_q16, whole
from .box_selection import read_test_cfg
from .curves import exponential, exponential_below_zero
from .fold import Folded, fold_regions
from .graph import Trace
from .owners import coder_of, owner_of
from .trace import (
    dense_head,
    region_extractors,
    region_heads,
    trace_regions,
)

ROI_HEADS = ('StandardRoIHead', 'CascadeRoIHead')
# Methods of a roi_head that find boxes.
METHODS = ('predict', 'predict_bbox', '_bbox_forward', '_refine_roi')
# Methods of one of its heads that do.
HEAD_METHODS = (
    *('predict_by_feat', '_predict_by_feat_single', 'regress_by_class'),
)
# Index of the first output that a second stage reads. The outputs before it
# are the logits and the box codes of the proposals.
FIRST_REGION_MAPS = 2


@dataclass(frozen=True)
class RegionNetwork:
    """One captured head of a second stage.

    Attributes:
        trace: Its graph.
        folded: Its program.
    """

    trace: Trace
    folded: Folded


def need_proposals(
    detector: nn.Module, owner: str, program: ir.Program
) -> None:
    """Raise if regions would be read from other boxes than a program's.

    Args:
        detector: A detector, perhaps with a second stage.
        owner: Whose way of finding boxes its rpn_head has.
        program: Its network.

    Raises:
        UserError: Naming the head.
    """
    count = len(region_extractors(detector))
    if not count:
        return
    name = type(dense_head(detector)).__name__
    if owner != 'RPNHead':
        raise UserError(
            f'rpn_head ({name}) finds its proposals as {owner} does: in front '
            'of regions a program has those of RPNHead, each level of which '
            'is suppressed by itself'
        )
    outputs = len(program.outputs) - count
    if outputs != FIRST_REGION_MAPS:
        raise UserError(
            f'rpn_head ({name}) has {outputs} kinds of maps: in front of '
            'regions a program has logits and box codes'
        )


def capture_regions(detector: nn.Module) -> tuple[Trace, ...]:
    """Capture all heads of a second stage; a detector without one has none.

    Args:
        detector: In evaluation mode.

    Raises:
        UserError: If boxes are found in a way that has no integers, or the
            exporter cannot follow a head.
    """
    if region_extractors(detector):
        _need_known_roi_head(detector)
    traces = []
    for roi_extractor, head in zip(
        region_extractors(detector), region_heads(detector), strict=True
    ):
        extractor = roi_extractor.extractor
        size = extractor.roi_layers[0].output_size
        shape = (extractor.out_channels, *size)
        traces.append(trace_regions(detector, head, shape))
    return tuple(traces)


def _need_known_roi_head(detector: nn.Module) -> None:
    roi_head: Any = detector.roi_head
    owner = owner_of(roi_head, METHODS)
    if owner not in ROI_HEADS:
        raise UserError(
            f'roi_head ({type(roi_head).__name__}) finds its boxes as '
            f'{owner} does: the program has {", ".join(ROI_HEADS)}'
        )
    if roi_head.with_shared_head:
        raise UserError(
            f'roi_head.shared_head ({type(roi_head.shared_head).__name__}): '
            'a program has nothing between regions and their bbox_head'
        )


def region_networks(
    detector: nn.Module, traces: tuple[Trace, ...], fixed_point: FixedPoint
) -> tuple[RegionNetwork, ...]:
    """Fold all heads of a second stage, with the weights as they are now.

    Args:
        detector: The detector.
        traces: Of :func:`capture_regions`.
        fixed_point: Width of multipliers.

    Raises:
        UserError: If a part of one stays float.
    """
    return tuple(
        RegionNetwork(
            trace,
            fold_regions(
                trace,
                roi_extractor.extractor.out_channels,
                roi_extractor.input_quantizer,
                fixed_point,
            ),
        )
        for roi_extractor, trace in zip(
            region_extractors(detector), traces, strict=True
        )
    )


def read_regions(
    detector: nn.Module,
    networks: tuple[RegionNetwork, ...],
    fixed_point: FixedPoint,
) -> Regions | None:
    """Return the second stage of a detector, or None without one.

    Args:
        detector: The detector.
        networks: Of its :func:`region_networks`.
        fixed_point: Width of multipliers.

    Raises:
        UserError: If it has no integers for how boxes are found.
    """
    if not networks:
        return None
    roi_head: Any = detector.roi_head
    cfg = read_test_cfg(
        'model.test_cfg.rcnn',
        roi_head.test_cfg,
        scored=True,
        known=('mask_thr_binary',),  # of masks, which a program has not
    )
    assert cfg.least is not None
    limit = round(abs(log(16 / 1000)) * 2**DELTA_BITS)
    roi_extractors = region_extractors(detector)
    stages = tuple(
        _stage(number, roi_extractor.extractor, head, network, fixed_point)
        for number, (roi_extractor, head, network) in enumerate(
            zip(roi_extractors, region_heads(detector), networks, strict=True)
        )
    )
    return Regions(
        stages=stages,
        limit=limit,
        exp=exponential(limit),
        powers=exponential_below_zero(),
        threshold=floor(cfg.least * 2**SCORE_BITS) + 1,
        overlap=cfg.overlap,
        keep=cfg.keep,
    )


def _stage(
    number: int,
    extractor: Any,
    head: Any,
    network: RegionNetwork,
    fixed_point: FixedPoint,
) -> RegionStage:
    owner = owner_of(head, HEAD_METHODS)
    coder = head.bbox_coder
    if owner != 'BBoxHead' or coder_of(head) != 'DeltaXYWHBBoxCoder':
        raise UserError(
            f'roi_head.bbox_head ({type(head).__name__}) finds its boxes as '
            f'{owner} does, coded by {coder_of(head)}: the program has '
            'BBoxHead, DeltaXYWHBBoxCoder'
        )
    check_deltas(coder)
    if head.custom_cls_channels:
        raise UserError(
            f'roi_head.bbox_head: {type(head.loss_cls).__name__} makes scores '
            'in its own way; the program has softmax'
        )
    align = extractor.roi_layers[0]
    rows, columns = align.output_size
    is_aligned = owner_of(align, ('forward',)) == 'RoIAlign' and align.aligned
    if not is_aligned or align.pool_mode != 'avg' or rows != columns:
        raise UserError(
            'roi_head.bbox_roi_extractor: the program has RoIAlign, aligned, '
            f'of averages, square; found {align}'
        )
    program = network.folded.program
    logits, codes = program.outputs
    return RegionStage(
        features=FIRST_REGION_MAPS + number,
        strides=tuple(
            whole('featmap_strides', s) for s in extractor.featmap_strides
        ),
        finest=whole('finest_scale', extractor.finest_scale),
        bins=int(rows),
        samples=int(align.sampling_ratio),
        program=program,
        logits=to_q16(logits.scale, fixed_point),
        deltas=real_multipliers(
            codes.scale * np.array(coder.stds) * 2**DELTA_BITS,
            np.array(coder.means) * 2**DELTA_BITS,
            fixed_point,
        ),
    )
