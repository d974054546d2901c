"""A test_cfg is in the program, or refused by name."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.compiler.box_selection import (
    ALL,
    NO_FACTOR,
    NO_THRESHOLD,
    BoxSelection,
    check_selection,
    check_two_stages,
    least_factor,
    least_rank,
    read_test_cfg,
)
from aqd_mmdet.errors import UserError
from aqd_mmdet.program.detector import (
    Anchors,
    BestClass,
    GeometricMean,
    Joint,
    Sigmoid,
)
from aqd_mmdet.program.selection import Selection
from tests.factories import detector
from tests.random_detectors import random_detector

CFG = dict(
    nms_pre=1000,
    min_bbox_size=0,
    score_thr=0.05,
    nms=dict(type='nms', iou_threshold=0.5),
    max_per_img=100,
)
EXPECTED = BoxSelection(1000, 0.05, 2**15, ALL, 100)


def changed(**changes) -> dict:
    nms = {**CFG['nms'], **changes.pop('nms', {})}
    return {**CFG, 'nms': nms, **changes}


@pytest.mark.parametrize(
    'changes, expected',
    [
        ({}, {}),
        (dict(nms_pre=-1), dict(candidates=ALL)),
        (dict(max_per_img=ALL + 5), dict(keep=ALL)),
        (dict(nms=dict(split_thr=5)), {}),
        (dict(nms=dict(class_agnostic=False, offset=0)), {}),
        (dict(nms=dict(max_num=-1)), {}),
        (dict(nms=dict(max_num=30)), dict(suppressed=30, keep=30)),
        (dict(nms=dict(max_num=300)), dict(suppressed=300)),
        (dict(score_thr=0), dict(least=0)),
    ],
)
def test_what_a_program_has(changes, expected):
    found = read_test_cfg('model.test_cfg', changed(**changes), scored=True)
    assert found == replace(EXPECTED, **expected)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(nms=dict(type='soft_nms')), r"nms\.type='soft_nms'"),
        (dict(nms=dict(class_agnostic=True)), r'nms\.class_agnostic=True'),
        (dict(nms=dict(offset=1)), r'nms\.offset=1'),
        (dict(nms=dict(score_threshold=0.2)), r'nms\.score_threshold'),
        (dict(nms=dict(iou_threshold=1.5)), r'nms\.iou_threshold=1\.5'),
        (dict(nms=dict(max_num=0)), r'nms\.max_num=0'),
        (dict(min_bbox_size=4), 'min_bbox_size'),
        (dict(min_bbox_size=-1), 'min_bbox_size'),
        (dict(nms_pre=0), 'nms_pre=0'),
        (dict(max_per_img=-1), 'max_per_img=-1'),
        (dict(max_per_img=1.5), r'max_per_img=1\.5'),
        (dict(score_thr=1.0), 'score_thr=1'),
        (dict(score_thr=30), 'score_thr=30'),
        (dict(score_thr=None), 'score_thr=None'),
        (dict(score_thrs=0.3), 'score_thrs=0.3.*nearest: score_thr'),
        (dict(multi_label=True), 'multi_label=True'),
    ],
)
def test_what_a_program_has_not(changes, message):
    with pytest.raises(UserError, match=rf'model\.test_cfg\.?{message}'):
        read_test_cfg('model.test_cfg', changed(**changes), scored=True)


def test_suppression_is_needed():
    for cfg, message in (
        ({**CFG, 'nms': None}, 'nms=None: expected a dict'),
        ({k: v for k, v in CFG.items() if k != 'nms'}, 'has no nms'),
        ({**CFG, 'nms': dict(iou_thr=0.5)}, 'nms has no iou_threshold'),
    ):
        with pytest.raises(UserError, match=message):
            read_test_cfg('model.test_cfg', cfg, scored=True)


@given(st.text('abcdefgh_', min_size=3, max_size=12))
def test_every_other_key_is_refused(name):
    for cfg in (changed(**{name: 7}), changed(nms={name: 7})):
        with pytest.raises(UserError, match=f'{name}=7'):
            read_test_cfg('model.test_cfg', cfg, scored=True)


def test_proposals_have_no_score():
    cfg = {k: v for k, v in CFG.items() if k != 'score_thr'}
    assert read_test_cfg('rpn', cfg, scored=False).least is None
    with pytest.raises(UserError, match='score_thr'):
        read_test_cfg('rpn', CFG, scored=False)


def test_third_outputs_that_count():
    assert least_factor({}, 0.5) == NO_FACTOR
    assert least_factor(dict(conf_thr=0.5), 0.25) == 0
    assert least_factor(dict(conf_thr=0.9), 0.25) == 9  # of 2.197 / 0.25
    assert least_factor(dict(conf_thr=1), 0.25) == 2**31 - 1
    with pytest.raises(UserError, match='conf_thr=2'):
        least_factor(dict(conf_thr=2), 0.25)


class Model:
    """Of a config."""

    def __init__(self, **test_cfg):
        self.test_cfg = test_cfg


class Stages:
    """Of a config of two stages."""

    def __init__(self, rpn, rcnn):
        self.test_cfg = SimpleNamespace(rpn=rpn, rcnn=rcnn)


def test_a_compiled_detector_keeps_what_the_config_says():
    compiled = detector()
    post = replace(
        compiled.postprocess, overlap=2**15, keep=100, candidates=1000
    )
    scale = compiled.program.outputs[0].scale
    compiled = replace(compiled, postprocess=replace(post, threshold=1))
    # The first logit above it is 1.
    cfg = changed(score_thr=0.5)
    assert scale > 0
    kept = Selection.of(compiled)
    check_selection(Model(**cfg), kept)
    for changes, name in (
        (dict(score_thr=0.9), 'score_thr'),
        (dict(nms=dict(iou_threshold=0.6)), 'nms.iou_threshold'),
        (dict(max_per_img=50), 'max_per_img'),
        (dict(nms_pre=10), 'nms_pre'),
    ):
        with pytest.raises(UserError, match=f'another model.test_cfg.{name}'):
            check_selection(Model(**{**cfg, **changes}), kept)


def test_both_stages_keep_what_the_config_says():
    compiled = random_detector(0, Anchors, Sigmoid, 1)
    alike = dict(overlap=2**15, keep=100)
    post = replace(
        compiled.postprocess, threshold=NO_THRESHOLD, candidates=1000,
        total=ALL, **alike,
    )  # fmt: skip
    regions = replace(compiled.regions, threshold=2**23 + 1, **alike)
    rpn, rcnn = changed(), changed(score_thr=0.5)
    del rpn['score_thr'], rcnn['nms_pre']

    def check(**changes) -> None:
        check_two_stages(Stages({**rpn, **changes}, rcnn), post, regions)

    check()
    with pytest.raises(UserError, match='another model.test_cfg.rpn.nms_pre'):
        check(nms_pre=10)
    rcnn['score_thr'] = 0.4
    with pytest.raises(UserError, match='test_cfg.rcnn.score_thr'):
        check()


@pytest.mark.parametrize(
    'kind, score, expected',
    [
        # Of YOLOX's way a score may be the threshold.
        (BestClass, 0.25, 2**46),
        (Joint, 0.25, 2**46 + 1),
        (GeometricMean, 0.5, 2**46 + 1),
        (Joint, 0, 1),
    ],
)
def test_least_products(kind, score, expected):
    assert least_rank(kind.__name__, score, 1.0) == expected


def test_unknown_scores_are_refused():
    with pytest.raises(UserError, match='Votes is no kind of scores'):
        least_rank('Votes', 0.5, 1.0)
