"""Metrics of exports are those of their program, or an error names them."""

import pytest

from aqd_mmdet.engine.comparison import check_equal, table
from aqd_mmdet.errors import UserError

PROGRAM = {'coco/bbox_mAP': 0.307, 'coco/bbox_mAP_50': 0.471}


def metrics(**exports: float) -> dict[str, dict[str, float]]:
    others = {
        name: {**PROGRAM, 'coco/bbox_mAP': found}
        for name, found in exports.items()
    }
    return {'model.aqd': PROGRAM, **others}


def test_table():
    assert table(metrics(a=0.3, b=0.31)).splitlines() == [
        '| metric | model.aqd | a | b |',
        '| --- | --- | --- | --- |',
        '| coco/bbox_mAP | 30.7 | 30.0 | 31.0 |',
        '| coco/bbox_mAP_50 | 47.1 | 47.1 | 47.1 |',
    ]


def test_metrics_of_nothing_are_no_number():
    found = {'model.aqd': {'coco/bbox_mAP_l': -1.0}}
    assert table(found).splitlines()[-1] == '| coco/bbox_mAP_l | - |'


def test_a_tenth_of_a_point_is_no_difference():
    check_equal(metrics(a=0.307, b=0.306, c=0.308))


@pytest.mark.parametrize('found', [0.305, 0.309])
def test_more_is_an_error(found):
    with pytest.raises(
        UserError,
        match=f'^model b: coco/bbox_mAP is {100 * found}, and 30.7 of '
        'model.aqd: expected at most 0.1 point between them$',
    ):
        check_equal(metrics(a=0.307, b=found))


def test_metrics_without_an_ap_are_refused():
    with pytest.raises(UserError, match='ends in mAP, found recall$'):
        check_equal({'model.aqd': dict(recall=1.0)})


@pytest.mark.parametrize(
    'model, export', [({}, PROGRAM), (PROGRAM, {}), ({}, {})]
)
def test_nothing_that_was_found_is_no_comparison(model, export):
    metrics = {'model.aqd': model, 'a.onnx': export}
    assert table(metrics)
    name = 'a.onnx' if model else 'model.aqd'
    with pytest.raises(UserError, match=f'^model {name}: it found nothing'):
        check_equal(metrics)


def test_a_metric_that_one_lacks():
    found = {'model.aqd': PROGRAM, 'a.onnx': {'coco/bbox_mAP_50': 0.471}}
    assert table(found).splitlines()[2:] == [
        '| coco/bbox_mAP | 30.7 | - |',
        '| coco/bbox_mAP_50 | 47.1 | 47.1 |',
    ]
    with pytest.raises(
        UserError, match='^model a.onnx: it has no coco/bbox_mAP'
    ):
        check_equal(found)
