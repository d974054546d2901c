"""Anchors, points and coders of mmdet as integers."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.models.task_modules import coders
from mmdet.models.task_modules.prior_generators import (
    AnchorGenerator,
    MlvlPointGenerator,
)

from aqd_mmdet.compiler.box_coders import (
    CODERS,
    anchors,
    check_deltas,
    exponents,
    points,
    to_q16,
)
from aqd_mmdet.errors import UserError
from aqd_mmdet.program.detector import Bins, Decoder, PointLevel, Points
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.runtime.boxes import corners


def test_anchors_are_centres_and_sizes():
    generator = AnchorGenerator(
        strides=[(8, 16)], ratios=[1.0], scales=[2.0], base_sizes=[8],
        centers=[(4.0, 6.0)],
    )  # fmt: skip
    level = anchors(generator, 0)
    # mmdet gives strides as across and down.
    assert level.stride == (16, 8)
    assert (level.base / 2**12).tolist() == [[4.0, 6.0, 16.0, 16.0]]


def test_points_lie_at_a_share_of_their_stride():
    levels = points(MlvlPointGenerator([(8, 16), (32, 32)], offset=0.5))
    assert [level.stride for level in levels] == [(16, 8), (32, 32)]
    assert [level.offset for level in levels] == [
        (8 * 2**12, 4 * 2**12),
        (16 * 2**12, 16 * 2**12),
    ]


def test_strides_of_fractions_are_refused():
    halves = MlvlPointGenerator([8, 16.5])
    with pytest.raises(UserError, match=r'stride=16\.5: .* whole pixels'):
        points(halves)
    with pytest.raises(UserError, match=r'stride=7\.5: '):
        anchors(AnchorGenerator([(8, 7.5)], [1.0], [2.0]), 0)


def test_q16_of_a_scale():
    multipliers = to_q16(2.0**-10, FixedPoint())
    value = 3 * int(multipliers.m[0]) + int(multipliers.b[0])
    assert value >> int(multipliers.s[0]) == 3 * 2**6


@pytest.mark.parametrize(
    'flags, passes',
    [((False, True), True), ((True, True), False), ((False, False), False)],
)
def test_deltas_that_a_program_has(flags, passes):
    coder = SimpleNamespace(add_ctr_clamp=flags[0], clip_border=flags[1])
    if passes:
        check_deltas(coder)
    else:
        with pytest.raises(UserError, match='^bbox_coder: .*add_ctr_clamp'):
            check_deltas(coder)


@pytest.mark.parametrize(
    'name, clip_border, priors, message',
    [
        ('DistancePointBBoxCoder', False, 1, 'has clip_border$'),
        ('TBLRBBoxCoder', False, 1, 'one anchor a place'),
        ('TBLRBBoxCoder', True, 2, 'one anchor a place'),
    ],
)
def test_coders_that_are_refused(name, clip_border, priors, message):
    head = SimpleNamespace(
        bbox_coder=getattr(coders, name)(clip_border=clip_border),
        prior_generator=SimpleNamespace(num_base_priors=[priors]),
    )
    with pytest.raises(UserError, match=f'^bbox_coder: .*{message}'):
        CODERS[name](head, None, FixedPoint())


LEVELS = (PointLevel((8, 8), (2**14, 2**14)),)


def head_of(coder: str) -> SimpleNamespace:
    return SimpleNamespace(bbox_coder=getattr(coders, coder)())


def test_distances_that_are_exponentials():
    decoder = exponents(
        head_of('DistancePointBBoxCoder'),
        Points(LEVELS, ()),
        2.0**-16,
        FixedPoint(),
    )
    # exp(0) and exp(log(2)) are one and two pixels; exponents end at 9.
    codes = np.array(
        [[0, 45426, 9 << 16, 2**31 - 1], [-(9 << 16), -(2**31), 0, 0]]
    )
    zero = np.zeros(2, np.int64)
    edges = corners(decoder, 0, codes, zero, zero, zero)
    x0, y0, x1, y1 = (edges[0] - 2**14).tolist()
    assert (x0, y0) == (-(2**12), -(2**13))
    assert x1 == y1 == pytest.approx(8103.08 * 2**12, rel=3e-6)
    # An eighth of a thousandth of a pixel is half a unit, and rounds upwards.
    assert (edges[1] - 2**14).tolist() == [-1, -1, 2**12, 2**12]


@pytest.mark.parametrize(
    'coder, decoder',
    [
        ('TBLRBBoxCoder', Points(LEVELS, ())),
        ('DistancePointBBoxCoder', Bins(LEVELS, 17, None, None)),
    ],
)
def test_other_exponentials_are_refused(coder: str, decoder: Decoder):
    with pytest.raises(UserError, match=f'are exponentials, coded by {coder}'):
        exponents(head_of(coder), decoder, 1.0, FixedPoint())
