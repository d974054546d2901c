"""Box decoding on integers, against mmdet's."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.structures.bbox import distance2bbox

from aqd_mmdet.compiler.curves import sample
from aqd_mmdet.program.detector import (
    PointLevel,
    Points,
    PostProcess,
    Sigmoid,
)
from aqd_mmdet.program.fixed_point import FixedPoint, real_multipliers
from aqd_mmdet.runtime import postprocess


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
