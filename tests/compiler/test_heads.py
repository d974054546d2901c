"""What is compiled of mmdet's heads finds their boxes, on the same maps."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.models.dense_heads import (
    FCOSHead,
    GFLHead,
    RetinaHead,
    RPNHead,
)
from mmdet.models.dense_heads.gfl_head import Integral
from mmdet.models.task_modules.coders import YOLOBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator

from aqd_mmdet.compiler.fold import Folded
from aqd_mmdet.compiler.heads import read_postprocess
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.runtime import postprocess
from aqd_mmdet.runtime.scores import shown
from tests.heads import (
    CASES,
    SCALES,
    SIZE,
    SQUARES,
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


SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)


class OwnGenerator(AnchorGenerator):
    def single_level_grid_priors(self, *args, **kwargs):
        return super().single_level_grid_priors(*args, **kwargs) + 1


@pytest.mark.parametrize(
    'name, changes, message',
    [
        ('FCOSHead', dict(loss_cls=SOFTMAX), 'FCOSHead multiplies a softmax'),
        ('ATSSHead', dict(loss_cls=SOFTMAX), 'ATSSHead multiplies a softmax'),
        ('YOLOFHead', dict(loss_cls=SOFTMAX), 'multiplies a softmax'),
        (
            'GFLHead',
            dict(
                bbox_coder=dict(
                    type='DistancePointBBoxCoder', clip_border=False
                )
            ),
            'bbox_coder: a program has clip_border',
        ),
        (
            'PAAHead',
            dict(bbox_coder=dict(type='TBLRBBoxCoder')),
            r'bbox_coder \(TBLRBBoxCoder\): .* DeltaXYWHBBoxCoder',
        ),
        (
            'RTMDetHead',
            dict(anchor_generator=SQUARES),
            r'prior_generator \(AnchorGenerator\) .* MlvlPointGenerator',
        ),
        (
            'RetinaHead',
            dict(anchor_generator=dict(SQUARES, type=OwnGenerator)),
            rf'finds its places as {__name__}\.OwnGenerator does',
        ),
    ],
)
def test_ways_that_are_refused(name, changes, message, monkeypatch):
    case = CASES[name]
    changed = replace(case, cfg={**case.cfg, **changes})
    monkeypatch.setitem(CASES, name, changed)
    with pytest.raises(UserError, match=message):
        head_and_post_of(name)


def test_heads_that_change_what_they_predict_are_refused():
    class OwnHead(RetinaHead):
        def predict(self, *args, **kwargs):
            return super().predict(*args, **kwargs)[:1]

    detector = SimpleNamespace(bbox_head=OwnHead(10, 8))
    with pytest.raises(
        UserError, match=r'OwnHead finds its boxes as .*\.OwnHead'
    ):
        read_postprocess(detector, None, FixedPoint())


def test_maps_are_as_many_as_strides():
    network = SimpleNamespace(outputs=(ir.Output(('a', 'b'), 1.0),))
    detector = SimpleNamespace(bbox_head=RetinaHead(10, 8))
    with pytest.raises(UserError, match='has 2 maps, .* 5 strides'):
        read_postprocess(
            detector, SimpleNamespace(program=network), FixedPoint()
        )


class WideCoder(YOLOBBoxCoder):
    def decode(self, *args, **kwargs):
        return 2 * super().decode(*args, **kwargs)


def test_coders_of_yolov3_are_read(monkeypatch):
    head, _, _ = head_and_post_of('YOLOV3Head')
    head.bbox_coder = WideCoder()
    program = SimpleNamespace(outputs=(ir.Output(('a',) * 4, 1.0),))
    network = SimpleNamespace(program=program)
    with pytest.raises(
        UserError, match=rf'codes boxes by {__name__}\.WideCoder'
    ):
        read_postprocess(
            SimpleNamespace(bbox_head=head), network, FixedPoint()
        )


class CornerHead(GFLHead):
    def anchor_center(self, anchors):
        return anchors[..., :2]


class OwnMean(Integral):
    def forward(self, x):
        return 2 * super().forward(x)


def _read(head, outputs):
    program = SimpleNamespace(outputs=(ir.Output(('a',) * 4, 1.0),) * outputs)
    detector = SimpleNamespace(bbox_head=head)
    return read_postprocess(
        detector, Folded(program, {}, boxes_are_exponents=False), FixedPoint()
    )


def test_heads_that_decode_bins_by_helpers_of_their_own(monkeypatch):
    head, _, _ = head_and_post_of('GFLHead')
    _read(head, 2)
    head.integral.project[3] = 3.5
    with pytest.raises(UserError, match=r'3\.5, .* has bins at 0 to 16'):
        _read(head, 2)
    head.integral = OwnMean(head.reg_max)
    with pytest.raises(UserError, match=r'GFLHead and by .*\.OwnMean'):
        _read(head, 2)
    head.integral = Integral(head.reg_max)
    head.__class__ = CornerHead
    with pytest.raises(UserError, match=r'anchor_center of .*\.CornerHead'):
        _read(head, 2)


def test_strides_of_yolov3_that_disagree():
    head, _, _ = head_and_post_of('YOLOV3Head')
    head.featmap_strides = [8, 16, 32, 65]
    with pytest.raises(UserError, match=r'featmap_strides=\[8, .* the same'):
        _read(head, 1)


def _two_stage(head, outputs):
    roi_head = SimpleNamespace(bbox_roi_extractor=None)
    program = SimpleNamespace(outputs=(ir.Output(('a',) * 5, 1.0),) * outputs)
    return read_postprocess(
        SimpleNamespace(rpn_head=head, roi_head=roi_head),
        Folded(program, {}, boxes_are_exponents=False),
        FixedPoint(),
    )


@pytest.mark.parametrize('kind', [RetinaHead, FCOSHead])
def test_proposals_of_other_heads_are_refused(kind):
    match = rf'rpn_head \({kind.__name__}\) .* as BaseDenseHead does'
    with pytest.raises(UserError, match=match):
        _two_stage(kind(1, 8), 3)


def test_proposals_of_more_maps_are_refused():
    head = RPNHead(8)
    match = r'rpn_head \(RPNHead\) has 3 kinds of maps'
    with pytest.raises(UserError, match=match):
        _two_stage(head, 4)
    head.test_cfg = None
    # It is read further, with the maps of one extractor behind its two.
    with pytest.raises(UserError, match='test_cfg.rpn'):
        _two_stage(head, 3)


def test_edges_of_foveas_may_be_fractions(monkeypatch):
    case = CASES['FoveaHead']
    edges = dict(base_edge_list=[16.5, 32, 64, 128])
    changed = replace(case, cfg={**case.cfg, **edges})
    monkeypatch.setitem(CASES, 'FoveaHead', changed)
    _, post, _ = head_and_post_of('FoveaHead')
    assert post.decoder.edges[:2] == (33 << 11, 32 << 12)


@pytest.fixture
def head_and_post():
    return head_and_post_of('RetinaHead')[:2]


def test_threshold_is_the_first_logit_above(head_and_post):
    head, post = head_and_post
    least = head.test_cfg['score_thr']

    def sigmoid(code: int) -> float:
        return 1 / (1 + np.exp(-code * SCALES[0]))

    assert sigmoid(post.threshold) > least >= sigmoid(post.threshold - 1)
