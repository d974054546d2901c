"""Scores of detections, against real numbers."""

import numpy as np

from aqd_mmdet.runtime.scores import shown
from tests.heads import SCALES, head_and_post_of


def test_scores_are_sigmoids():
    _, post = head_and_post_of('RetinaHead')[:2]
    logits = np.linspace(-15, 15, 1001) / SCALES[0]
    found = shown(post.scores, logits.astype(np.int64)) / 2**24
    real = 1 / (1 + np.exp(-logits.astype(np.int64) * SCALES[0]))
    assert np.abs(found - real).max() < 4e-6
    assert (np.diff(found) >= 0).all()
