"""Integer decoding and suppression against mmdet's, on the same maps."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.structures.bbox import distance2bbox
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from aqd_mmdet.compiler.curves import sample
from aqd_mmdet.compiler.heads import read_postprocess
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    PointLevel,
    Points,
    PostProcess,
    Sigmoid,
)
from aqd_mmdet.program.fixed_point import FixedPoint, real_multipliers
from aqd_mmdet.runtime import postprocess
from aqd_mmdet.runtime.curves import read_curve, square_root
from aqd_mmdet.runtime.scores import shown

SCALES = (2.0**-12, 2.0**-14, 2.0**-13)
SIZE = (150, 157)
SIDES = (20, 10, 5, 3)
STRIDES = [8, 16, 32, 64]
CLASSES = 10
NMS = dict(type='nms', iou_threshold=0.5)
TEST = dict(
    nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=NMS, max_per_img=100
)
SQUARES = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=4,
    scales_per_octave=1,
    strides=STRIDES,
)
DELTAS = dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])
SMALL = dict(num_classes=CLASSES, in_channels=8)


@dataclass(frozen=True)
class Case:
    """A head, and what its maps may hold.

    Attributes:
        cfg: Of the head.
        kinds: For each output: channels, mean and deviation, and the least
            value.
        test: Changes of the test config.
    """

    cfg: dict
    kinds: list[tuple[int, float, float, float]]
    test: dict = field(default_factory=dict)


LOW = -np.inf
LOGITS = (CLASSES, -4, 1.5, LOW)
CASES = {
    'RetinaHead': Case(
        dict(
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=2,
                scales_per_octave=2,
                ratios=[1.0, 1.7],
                strides=STRIDES,
            )
        ),
        [(4 * CLASSES, -4, 1.5, LOW), (16, 0, 0.6, LOW)],
    ),
    'FCOSHead': Case(
        dict(strides=STRIDES, norm_cfg=None),
        [LOGITS, (4, 12, 9, 0), (1, 0, 2, LOW)],
    ),
    'ATSSHead': Case(
        dict(
            anchor_generator=SQUARES,
            bbox_coder=DELTAS,
            loss_bbox=dict(type='GIoULoss'),
        ),
        [LOGITS, (4, 0, 3, LOW), (1, 0, 2, LOW)],
    ),
    'PAAHead': Case(
        dict(
            anchor_generator=SQUARES,
            bbox_coder=DELTAS,
            reg_decoded_bbox=True,
            loss_bbox=dict(type='GIoULoss'),
            score_voting=False,
        ),
        [LOGITS, (4, 0, 3, LOW), (1, 0, 2, LOW)],
        dict(max_per_img=10**5),
    ),
    'GFLHead': Case(dict(anchor_generator=SQUARES), [LOGITS, (68, 0, 3, LOW)]),
    'FoveaHead': Case(
        dict(strides=STRIDES, base_edge_list=[16, 32, 64, 128]),
        [LOGITS, (4, 0, 0.6, LOW)],
    ),
    'AutoAssignHead': Case(
        dict(strides=STRIDES), [LOGITS, (4, 12, 9, 0), (1, 0, 2, LOW)]
    ),
    'CenterNetUpdateHead': Case(
        dict(strides=STRIDES), [LOGITS, (4, 12, 9, 0)]
    ),
    'FSAFHead': Case(
        dict(
            reg_decoded_bbox=True,
            anchor_generator=SQUARES,
            bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='IoULoss'),
        ),
        [LOGITS, (4, 0.1, 0.1, LOW)],
    ),
    'RTMDetHead': Case(
        dict(
            anchor_generator=dict(
                type='MlvlPointGenerator', offset=0, strides=STRIDES
            ),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_bbox=dict(type='GIoULoss'),
            with_objectness=False,
        ),
        [LOGITS, (4, 12, 9, LOW)],
    ),
    'YOLOXHead': Case(
        dict(strides=STRIDES),
        [(CLASSES, -1, 1.5, LOW), (4, 0, 0.6, LOW), (1, -2, 2, LOW)],
        dict(score_thr=0.01, nms_pre=-1, max_per_img=1000),
    ),
    'YOLOV3Head': Case(
        dict(
            in_channels=[8] * 4,
            out_channels=[8] * 4,
            featmap_strides=STRIDES,
            anchor_generator=dict(
                type='YOLOAnchorGenerator',
                base_sizes=[[(8, 12), (20, 9)]] * 4,
                strides=STRIDES,
            ),
        ),
        [(2 * (5 + CLASSES), -2, 1.5, LOW)],
        dict(conf_thr=0.005),
    ),
    'SSDHead': Case(
        dict(
            in_channels=[8] * 4,
            anchor_generator=dict(
                type='SSDAnchorGenerator',
                scale_major=False,
                input_size=160,
                min_sizes=[10, 30, 60, 100],
                max_sizes=[30, 60, 100, 150],
                strides=STRIDES,
                ratios=[[2], [2], [2], [2]],
            ),
            bbox_coder=DELTAS,
        ),
        [(4 * (CLASSES + 1), 0, 2, LOW), (16, 0, 2, LOW)],
        dict(score_thr=0.2),
    ),
}


def head_and_post_of(name: str):
    case = CASES[name]
    cfg = {**SMALL, **case.cfg, 'type': name}
    cfg['test_cfg'] = ConfigDict(**TEST | case.test)
    head = MODELS.build(ConfigDict(cfg)).eval()
    if name == 'SSDHead':
        head.loss_cls = None  # which mmdet 3.3 reads and does not have
    tensors = tuple(f'{i}' for i in range(4))
    channels = case.kinds[0][0]
    ops = [
        ir.Requantize(name, ('image',), channels, ir.INT32, None)
        for name in tensors
    ]
    program = ir.Program(
        tuple(ops),
        {},
        tuple(
            ir.Output(tensors, scale) for scale in SCALES[: len(case.kinds)]
        ),
        32,
    )
    program, post = read_postprocess(
        SimpleNamespace(bbox_head=head), program, FixedPoint()
    )
    return head, post, program


def maps(name: str, seed: int):
    """Maps of a detector that sees a few objects, and their codes."""
    rng = np.random.default_rng(seed)
    return [
        [
            np.round(
                np.maximum(rng.normal(mean, deviation, (channels, s, s)), low)
                / scale
            ).astype(np.int32)
            for s in SIDES
        ]
        for (channels, mean, deviation, low), scale in zip(
            CASES[name].kinds, SCALES, strict=False
        )
    ]


def selected(program: ir.Program, codes):
    """Run what the head's way added to a program."""
    outputs = []
    for out in program.outputs:
        levels = []
        for number, tensor in enumerate(out.tensors):
            if tensor.isdigit():
                kind = SCALES.index(out.scale)
                levels.append(codes[kind][number])
                continue
            ops = {op.output: op for op in program.ops}
            parts = [ops[x] for x in ops[tensor].inputs]
            levels.append(
                np.concatenate(
                    [
                        codes[SCALES.index(out.scale)][number][
                            part.first : part.first + part.channels
                        ]
                        for part in parts
                    ]
                )
            )
        outputs.append(levels)
    return outputs


def mmdets(head, codes):
    real = [
        [torch.from_numpy(x * scale).float()[None] for x in level]
        for level, scale in zip(codes, SCALES, strict=False)
    ]
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0))
    return head.predict_by_feat(*real, batch_img_metas=[meta], rescale=True)[0]


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('seed', range(3))
def test_boxes_are_mmdets(name, seed):
    head, post, program = head_and_post_of(name)
    codes = maps(name, seed)
    found = postprocess.detect(post, selected(program, codes), SIZE)
    expected = mmdets(head, codes)
    scores = shown(post.scores, found.ranks) / 2**24
    assert len(expected.labels) >= 20
    # PAA's way keeps boxes without an area.
    sides = expected.bboxes[:, 2:] - expected.bboxes[:, :2]
    expected = expected[(sides > 0).all(1)]
    # Pairs whose overlap is within rounding of the threshold may differ.
    borderline = max(2, len(expected.labels) // 100)
    assert abs(len(found.labels) - len(expected.labels)) <= borderline
    # Scores that are nearly equal may come in another order.
    matched = 0
    for score, label, corners in zip(
        scores, found.labels, found.corners / 256, strict=True
    ):
        near = np.abs(expected.scores.numpy() - score) < 1e-5
        near &= expected.labels.numpy() == label
        apart = np.abs(expected.bboxes.numpy()[near] - corners)
        matched += bool((apart.max(1, initial=0) <= 1 / 8).any())
    assert matched >= len(scores) - borderline


@pytest.fixture
def head_and_post():
    return head_and_post_of('RetinaHead')[:2]


def test_scores_are_sigmoids(head_and_post):
    _, post = head_and_post
    logits = np.linspace(-15, 15, 1001) / SCALES[0]
    found = shown(post.scores, logits.astype(np.int64)) / 2**24
    real = 1 / (1 + np.exp(-logits.astype(np.int64) * SCALES[0]))
    assert np.abs(found - real).max() < 4e-6
    assert (np.diff(found) >= 0).all()


def test_threshold_is_the_first_logit_above(head_and_post):
    head, post = head_and_post
    least = head.test_cfg['score_thr']

    def sigmoid(code: int) -> float:
        return 1 / (1 + np.exp(-code * SCALES[0]))

    assert sigmoid(post.threshold) > least >= sigmoid(post.threshold - 1)


def test_exponentials_are_near(head_and_post):
    decoder = head_and_post[1].decoder
    x = np.linspace(-decoder.limit, decoder.limit, 5001).astype(np.int64)
    found = read_curve(decoder.exp, x)
    real = np.exp(x / 65536) * 65536
    assert (np.abs(found - real) <= 1 + 3e-6 * real).all()


@given(seed=st.integers(0, 2**20))
def test_distances_are_mmdets(seed):
    rng = np.random.default_rng(seed)
    scale, stride = 2.0**-10, 8
    level = PointLevel((stride, stride), (4 << 12, 4 << 12))
    distances = real_multipliers(scale * stride * 4096, 0.0, FixedPoint())
    scores = Sigmoid(
        real_multipliers(1.0, 0.0, FixedPoint()),
        sample(lambda x: x, 16 << 16, 10, 1),
    )
    post = PostProcess(
        Points((level,), (distances,)),
        scores,
        -(2**30),
        1000,
        1000,
        0,
        2**16,
        1000,
    )
    codes = rng.integers(-500, 12000, (4, 5, 6)).astype(np.int32)
    logits = rng.integers(-9, 9, (1, 5, 6)).astype(np.int32)
    found, _ = postprocess.level_boxes(post, 0, (logits, codes), (40, 48))
    y, x = np.mgrid[:5, :6]
    points = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2) * 8 + 4.0)
    real = torch.from_numpy(codes.transpose(1, 2, 0).reshape(-1, 4))
    expected = distance2bbox(points, real * scale * stride, (40, 48)).numpy()
    order = np.argsort(-logits.reshape(-1), kind='stable')
    expected = expected[order]
    assert np.abs(found.corners / 256 - expected).max(initial=0) <= 1 / 256


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


@given(x=st.integers(0, 2**62 - 1))
def test_square_roots_are_floored(x):
    root = int(square_root(np.array([x]))[0])
    assert root * root <= x < (root + 1) ** 2
