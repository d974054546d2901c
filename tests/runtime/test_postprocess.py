"""Suppression of boxes, proposals, and boxes of the original image."""

from types import SimpleNamespace

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from aqd_mmdet.compiler.fold import Folded
from aqd_mmdet.compiler.heads import read_postprocess
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.runtime import postprocess
from tests.heads import NMS, SIDES, SIZE, STRIDES

# Units of the logits and of the box codes.
LOGITS, CODES = 2.0**-12, 2.0**-14


def boxes(*corners, labels, ranks):
    return postprocess.Boxes(
        np.array(corners, np.int64), np.array(labels), np.array(ranks)
    )


def test_overlap_of_exactly_the_threshold_stays():
    # 10 x 10 and its right half: 1/2 of the union.
    pair = ([0, 0, 10, 10], [5, 0, 10, 10])
    both = boxes(*pair, labels=[1, 1], ranks=[9, 8])
    assert len(postprocess.suppress(both, 2**15, 9).labels) == 2
    assert len(postprocess.suppress(both, 2**15 - 1, 9).labels) == 1
    others = boxes(*pair, labels=[1, 2], ranks=[9, 8])
    assert len(postprocess.suppress(others, 0, 9).labels) == 2


def test_ties_go_to_the_first_and_the_best_are_kept():
    same = boxes(
        [0, 0, 4, 4], [9, 9, 12, 12], [20, 20, 30, 30],
        labels=[0, 1, 2], ranks=[5, 7, 5],
    )  # fmt: skip
    found = postprocess.suppress(same, 2**15, 2)
    assert found.labels.tolist() == [1, 0]


def test_back_to_the_image():
    corners = np.array([[256, 256, 768, 528]])
    found = postprocess.rescaled(corners, (10, 20), (15, 50))
    assert found.tolist() == [[640, 384, 1920, 792]]


def test_proposals_are_mmdets():
    test = dict(nms_pre=200, max_per_img=300, min_bbox_size=0)
    head = MODELS.build(
        ConfigDict(
            type='mmdet.RPNHead',
            in_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[2],
                ratios=[0.5, 1.0, 2.0],
                strides=STRIDES,
            ),
            test_cfg=dict(nms=NMS | dict(iou_threshold=0.7), **test),
        )
    )
    rng = np.random.default_rng(0)
    kinds = [(3, 1.5, LOGITS), (12, 0.6, CODES)]
    codes = [
        [
            np.round(rng.normal(0, sd, (n, s, s)) / scale).astype(np.int32)
            for s in SIDES
        ]
        for n, sd, scale in kinds
    ]
    outputs = tuple(
        ir.Output(tuple(f'{kind}.{i}' for i in range(4)), scale)
        for kind, (_, _, scale) in enumerate(kinds)
    )
    _, post = read_postprocess(
        SimpleNamespace(rpn_head=head, roi_head=None),
        Folded(ir.Program((), {}, outputs, 64), {}, False),
        FixedPoint(),
    )
    found = postprocess.propose(post, codes, SIZE) / 256
    real = [
        [torch.from_numpy(x).float()[None] * scale for x in maps]
        for maps, (_, _, scale) in zip(codes, kinds, strict=True)
    ]
    meta = dict(img_shape=SIZE)
    (expected,) = head.predict_by_feat(*real, batch_img_metas=[meta])
    assert len(expected) >= 200
    assert abs(len(found) - len(expected)) <= 3
    apart = np.abs(found[:, None] - expected.bboxes.numpy()[None]).max(2)
    assert (apart.min(1) <= 1 / 128).mean() >= 0.98
