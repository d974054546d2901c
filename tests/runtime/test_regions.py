"""The second stage on integers, against the oracle and against mmdet."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from aqd_mmdet.compiler.curves import exponential, exponential_below_zero
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import Regions, RegionStage
from aqd_mmdet.program.fixed_point import FixedPoint, real_multipliers
from aqd_mmdet.runtime import regions
from tests import oracle
from tests.heads import NMS

SIZE, CLASSES = (150, 157), 5
LOGITS, CODES = 2.0**-12, 2.0**-14
STDS = (0.1, 0.1, 0.2, 0.2)
LIMIT = 271006  # |log(16 / 1000)| in Q16


def stage(strides=(4, 8, 16, 32), bins=7, samples=0) -> RegionStage:
    outputs = (ir.Output(('logits',), LOGITS), ir.Output(('codes',), CODES))
    return RegionStage(
        features=2,
        strides=strides,
        finest=56,
        bins=bins,
        samples=samples,
        program=ir.Program((), {}, outputs, 1),
        logits=real_multipliers(LOGITS * 2**16, 0.0, FixedPoint()),
        deltas=real_multipliers(
            CODES * np.array(STDS) * 2**16, 0.0, FixedPoint()
        ),
    )


def second_stage(*stages: RegionStage) -> Regions:
    return Regions(
        stages=stages,
        limit=LIMIT,
        exp=exponential(LIMIT),
        powers=exponential_below_zero(),
        threshold=int(0.05 * 2**24) + 1,
        overlap=2**15,
        keep=100,
    )


corner = st.integers(0, 40 * 256)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99),
    edges=st.tuples(corner, corner, corner, corner),
    stride=st.sampled_from([1, 4, 5]),
    bins=st.integers(1, 4),
    samples=st.integers(0, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_averages_are_the_oracles(seed, edges, stride, bins, samples, size):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-255, 256, (2, *size)).astype(np.int16)
    x0, x1 = sorted(edges[:2])
    y0, y1 = sorted(edges[2:])
    box = np.array([[x0, y0, x1, y1]])
    found = regions.align(stage((stride,), bins, samples), [codes], box)
    expected = oracle.align(
        codes.tolist(), box[0].tolist(), stride, bins, samples
    )
    assert found.dtype == np.int32
    assert found[0].tolist() == expected


@pytest.mark.parametrize('samples', [0, 2])
def test_averages_are_near_mmdets(samples):
    rng = np.random.default_rng(samples)
    extractor = MODELS.build(
        dict(
            type='mmdet.SingleRoIExtractor',
            roi_layer=dict(
                type='RoIAlign', output_size=7, sampling_ratio=samples
            ),
            out_channels=3,
            featmap_strides=[4, 8, 16, 32],
        )
    )
    maps = [
        rng.integers(0, 256, (3, 512 // s, 768 // s)).astype(np.uint8)
        for s in (4, 8, 16, 32)
    ]
    corners = rng.integers(0, 512 * 256, (60, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 256], 1)
    rois = torch.from_numpy(np.insert(boxes / 256, 0, 0, 1)).float()
    expected = extractor(
        [torch.from_numpy(x).float()[None] for x in maps], rois
    )
    found = regions.align(stage(samples=samples), maps, boxes) / 256
    apart = np.abs(found - expected.numpy())
    # Positions are rounded to 256ths of a pixel of noise of 256 values.
    assert apart.max() < 1.5
    assert apart.mean() < 0.2


@pytest.mark.parametrize(
    'side, level', [(1, 0), (111.9, 0), (112, 1), (999, 3)]
)
def test_large_regions_read_coarse_maps(side, level):
    box = np.array([[0, 0, round(side * 256), round(side * 256)]])
    assert regions.levels_of(stage(), box).tolist() == [level]


HEAD = dict(
    type='Shared2FCBBoxHead',
    num_classes=CLASSES,
    in_channels=4,
    fc_out_channels=8,
    bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=STDS),
)
TEST = dict(score_thr=0.05, nms=NMS, max_per_img=100)


def roi_head(count: int, agnostic: bool):
    cfg = ConfigDict(
        bbox_head=HEAD | dict(reg_class_agnostic=agnostic),
        test_cfg=TEST,
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=4,
            featmap_strides=[4, 8, 16, 32],
        ),
    )
    if count == 1:
        return MODELS.build(ConfigDict(type='mmdet.StandardRoIHead', **cfg))
    return MODELS.build(
        ConfigDict(
            type='mmdet.CascadeRoIHead',
            num_stages=count,
            stage_loss_weights=[1] * count,
            **cfg,
        )
    )


@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('count', [1, 3])
def test_boxes_are_mmdets(count, agnostic):
    rng = np.random.default_rng(count)
    corners = rng.integers(0, 150 * 256, (80, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 256], 1)
    deltas = 4 if agnostic else 4 * CLASSES
    outputs = [
        (
            np.round(rng.normal(0, 2, (80, CLASSES + 1)) / LOGITS),
            np.round(rng.normal(0, 0.6, (80, deltas)) / CODES),
        )
        for _ in range(count)
    ]
    calls = iter(outputs)

    def run(program, averages):
        assert averages.shape == (80, 4, 7, 7)
        logits, codes = (x.astype(np.int32) for x in next(calls))
        return dict(logits=logits, codes=codes)

    maps = [rng.integers(0, 9, (4, 40, 40)) for _ in range(4)]
    stages = [stage() for _ in range(count)]
    found = regions.detect_regions(
        second_stage(*stages), [maps] * count, boxes, SIZE, run
    )
    head, again = roi_head(count, agnostic), iter(outputs)

    def forward(*args, **kwargs):
        logits, codes = (torch.from_numpy(x).float() for x in next(again))
        return dict(cls_score=logits * LOGITS, bbox_pred=codes * CODES)

    head._bbox_forward = forward
    proposals = InstanceData(bboxes=torch.from_numpy(boxes / 256).float())
    (expected,) = head.predict_bbox(
        None,
        [dict(img_shape=SIZE, scale_factor=(1.0, 1.0))],
        [proposals],
        ConfigDict(TEST),
    )
    assert len(expected) >= 50
    assert abs(len(found.labels) - len(expected)) <= 2
    matched = 0
    for box, label, rank in zip(
        found.corners / 256, found.labels, found.ranks / 2**24, strict=True
    ):
        near = np.abs(expected.scores.numpy() - rank) < 1e-5
        near &= expected.labels.numpy() == label
        apart = np.abs(expected.bboxes.numpy()[near] - box)
        matched += bool((apart.max(1, initial=0) <= 1 / 8).any())
    assert matched >= len(found.labels) - 2


def test_no_proposals_no_boxes():
    none = np.zeros((0, 4), np.int64)
    found = regions.detect_regions(
        second_stage(stage()),
        [[np.zeros((4, 9, 9), int)] * 4],
        none,
        SIZE,
        None,
    )
    assert len(found.labels) == len(found.corners) == 0
