"""What is compiled of mmdet's heads finds their boxes, on the same maps."""

import numpy as np
import pytest

from aqd_mmdet.runtime import postprocess
from aqd_mmdet.runtime.scores import shown
from tests.heads import (
    CASES,
    SCALES,
    SIZE,
    head_and_post_of,
    maps,
    mmdets,
    selected,
)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('seed', range(3))
def test_boxes_are_mmdets(name, seed):
    head, post, program = head_and_post_of(name)
    codes = maps(name, seed)
    found = postprocess.detect(post, selected(program, codes), SIZE)
    expected = mmdets(name, head, codes)
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


def test_threshold_is_the_first_logit_above(head_and_post):
    head, post = head_and_post
    least = head.test_cfg['score_thr']

    def sigmoid(code: int) -> float:
        return 1 / (1 + np.exp(-code * SCALES[0]))

    assert sigmoid(post.threshold) > least >= sigmoid(post.threshold - 1)
