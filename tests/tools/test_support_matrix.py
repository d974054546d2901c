"""The matrix of detectors: its rows, their steps and its document."""

import json

import pytest
from mmengine.config import Config

from tests.factories import ROOT, digits_config, narrow
from tests.tool import run_tool
from tools import support_matrix
from tools.support_matrix import STEPS, Row, check, document, tasks


def test_each_config_has_its_widths_and_its_original():
    rows = [row for row, _ in tasks()]
    keys = [(row.name, row.bits, bool(row.zoo)) for row in rows]
    assert len(set(keys)) == len(keys)
    mixed = {path.stem for path in ROOT.glob('configs/mix/*.py')}
    for name in mixed:
        assert {(name, bits, False) for bits in (8, 4, 2)} <= set(keys)
        assert (name, 8, True) in keys
    originals = {row.name: row.zoo for row in rows if row.zoo}
    name = 'atss_r50_fpn_aqd-w4a4_1x_coco'
    assert originals[name] == 'atss_r50_fpn_1x_coco'
    assert originals['yolox_nano_8xb8-300e_coco'] == (
        'yolox_nano_8xb8-300e_coco'
    )


@pytest.mark.parametrize(
    'name, head',
    [
        ('ssdlite_mobilenetv2_aqd-w4a4_8xb24-600e_coco', 'SSDHead'),
        ('yolof_r50-c5_8xb8-1x_coco', 'YOLOFHead'),
    ],
)
def test_originals_get_the_heads_of_the_package(name, head):
    (read,) = (read for row, read in tasks() if row.name == name and row.zoo)
    assert read().model.bbox_head.type == f'aqd_mmdet.{head}'


def small_config(bits: object) -> Config:
    cfg = digits_config('fp')
    cfg.model = narrow(18, 2, 'retinanet')
    cfg.model.bits = bits
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('zoo', ['', 'original'])
def test_a_small_detector_passes(zoo):
    row = Row('small', 8, zoo)
    found = check(row, lambda: small_config('float' if zoo else 8))
    assert found.reason == ''
    assert found.done == (['zoo'] if zoo else list(STEPS[:-1]))


@pytest.mark.slow
def test_a_step_that_fails_gives_the_reason(monkeypatch):
    def fail(compiled):
        raise RuntimeError('first line\nsecond line')

    monkeypatch.setattr(support_matrix, '_compare_engine', fail)
    found = check(Row('small', 8), lambda: small_config(8))
    assert found.done == list(STEPS[:-2])
    assert found.reason == 'RuntimeError: first line'


DASH = ' \u2013 |'


def test_the_document():
    reason = 'backbone: a transformer'
    lines = document(
        [
            Row('a', 8, done=list(STEPS[:-1])),
            Row('a', 4, done=['builds'], reason='no gradient'),
            Row('a', 8, 'zoo_a', done=['zoo']),
            Row('b', 8, reason=reason),
            Row('b', 8, 'b', reason=reason),
            Row('c', 8, 'c', done=['zoo']),
            Row('d', 8, done=['builds']),
        ]
    ).splitlines()
    start = lines.index(f'| config | {" | ".join(STEPS)} |')
    assert lines[start + 2 : start + 6] == [
        '| a | 8 4 | 8 | 8 | 8 | 8 | 8 | 8 | 8 |',
        f'| c |{DASH * 7} 8 |',
        '| d | 8 |  |  |  |  |  |  | \u2013 |',
        '',
    ]
    # The same reason is given once.
    assert lines[start + 8 :] == ['- **a**: no gradient', f'- **b**: {reason}']


def test_rows_of_the_cache_are_not_run_again(tmp_path):
    rows = {
        f'{row.name} {"zoo" if row.zoo else row.bits}': dict(
            name=row.name,
            bits=row.bits,
            zoo=row.zoo,
            done=['builds'],
            reason='',
        )
        for row, _ in tasks()
    }
    cache, out = tmp_path / 'cache.json', tmp_path / 'models.md'
    cache.write_text(json.dumps(rows))
    options = ('--cache', cache, '--out', out)
    result = run_tool('tools/support_matrix.py', *options)
    assert result.returncode == 0, result.stderr[-2000:]
    assert out.read_text().startswith('# Detectors')
    assert json.loads(cache.read_text()) == rows
