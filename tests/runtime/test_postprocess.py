"""Integer decoding and suppression against mmdet's, on the same maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.structures.bbox import distance2bbox
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from aqd_mmdet.integer.detector import (
    PointLevel,
    Points,
    PostProcess,
    Sigmoid,
)
from aqd_mmdet.integer.fixed_point import FixedPoint, real_multipliers
from aqd_mmdet.integer.heads import _curve, read_postprocess
from aqd_mmdet.integer.program import Output, Program
from aqd_mmdet.runtime import postprocess
from tests.conftest import digits_config

SCALES = (2.0**-12, 2.0**-14, 2.0**-13)
SIZE = (150, 157)
DETECTORS = ['retinanet', 'fcos']


def network(kinds: int) -> Program:
    names = tuple(f'{i}' for i in range(4))
    return Program(
        (), {}, tuple(Output(names, scale) for scale in SCALES[:kinds]), 32
    )


def head_and_post_of(name: str):
    cfg = digits_config('fp', name)
    model = MODELS.build(cfg.model).eval()
    kinds = 2 if name == 'retinanet' else 3
    post = read_postprocess(model, network(kinds), FixedPoint())
    return model.bbox_head, post


@pytest.fixture
def head_and_post():
    return head_and_post_of('retinanet')


def maps(name: str, seed: int):
    """Maps of a detector that sees a few objects, and their codes."""
    rng = np.random.default_rng(seed)
    sides = [20, 10, 5, 3]
    if name == 'retinanet':
        kinds = [
            [rng.normal(-4, 1.5, (40, s, s)) for s in sides],
            [rng.normal(0, 0.6, (16, s, s)) for s in sides],
        ]
    else:
        kinds = [
            [rng.normal(-4, 1.5, (10, s, s)) for s in sides],
            [np.maximum(rng.normal(12, 9, (4, s, s)), 0) for s in sides],
            [rng.normal(0, 2, (1, s, s)) for s in sides],
        ]
    return [
        [np.round(x / scale).astype(np.int32) for x in level]
        for level, scale in zip(kinds, SCALES, strict=False)
    ]


def mmdets(head, codes):
    real = [
        [torch.from_numpy(x * scale).float()[None] for x in level]
        for level, scale in zip(codes, SCALES, strict=False)
    ]
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0))
    return head.predict_by_feat(*real, batch_img_metas=[meta], rescale=True)[0]


@pytest.mark.parametrize('name', DETECTORS)
@pytest.mark.parametrize('seed', range(5))
def test_boxes_are_mmdets(name, seed):
    head, post = head_and_post_of(name)
    codes = maps(name, seed)
    found = postprocess.detect(post, codes, SIZE)
    expected: InstanceData = mmdets(head, codes)
    scores = postprocess.scores(post, found.ranks) / 2**24
    assert len(found.labels) == len(expected.labels)
    assert 30 < len(found.labels) <= 100
    # Scores that are nearly equal may come in another order.
    matched = 0
    for score, label, corners in zip(
        scores, found.labels, found.corners / 16, strict=True
    ):
        near = np.abs(expected.scores.numpy() - score) < 1e-5
        near &= expected.labels.numpy() == label
        apart = np.abs(expected.bboxes.numpy()[near] - corners).max(1)
        matched += bool((apart <= 1 / 8).any())
    # A pair whose overlap is within rounding of the threshold may differ.
    assert matched >= len(scores) - 2


def test_scores_are_sigmoids(head_and_post):
    _, post = head_and_post
    logits = np.linspace(-15, 15, 1001) / SCALES[0]
    found = postprocess.scores(post, logits.astype(np.int64)) / 2**24
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
    found = postprocess.read_curve(decoder.exp, x)
    real = np.exp(x / 65536) * 65536
    assert (np.abs(found - real) <= 1 + 3e-6 * real).all()


@given(seed=st.integers(0, 2**20))
def test_distances_are_mmdets(seed):
    rng = np.random.default_rng(seed)
    scale, stride = 2.0**-10, 8
    level = PointLevel(
        (stride, stride),
        (4 << 12, 4 << 12),
        real_multipliers(scale * stride * 4096, 0.0, FixedPoint()),
    )
    scores = Sigmoid(
        real_multipliers(1.0, 0.0, FixedPoint()),
        _curve(lambda x: x, 16 << 16, 10, 1),
    )
    post = PostProcess(Points((level,)), scores, -(2**30), 1000, 2**16, 1000)
    codes = rng.integers(-500, 12000, (4, 5, 6)).astype(np.int32)
    logits = rng.integers(-9, 9, (1, 5, 6)).astype(np.int32)
    found = postprocess.level_boxes(post, 0, (logits, codes), (40, 48))
    y, x = np.mgrid[:5, :6]
    points = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2) * 8 + 4.0)
    distances = torch.from_numpy(codes.transpose(1, 2, 0).reshape(-1, 4))
    expected = distance2bbox(
        points, (distances * scale).clamp(min=0) * stride, (40, 48)
    ).numpy()
    order = np.argsort(-logits.reshape(-1), kind='stable')
    expected = expected[order]
    sides = np.floor(expected * 16 + 0.5)
    sides = sides[:, 2:] - sides[:, :2]
    expected = expected[(sides > 0).all(1)]
    assert np.abs(found.corners / 16 - expected).max(initial=0) <= 1 / 16


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
    corners = np.array([[16, 16, 48, 33]])
    found = postprocess.rescaled(corners, (10, 20), (15, 50))
    assert found.tolist() == [[40, 24, 120, 50]]  # 49.5 goes up
