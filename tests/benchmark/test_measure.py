"""The figures that follow from the turns of a worker."""

import os

import pytest

from aqd_mmdet.benchmark import measure
from aqd_mmdet.benchmark.engines import EngineSpec
from aqd_mmdet.benchmark.layers import Chain
from aqd_mmdet.benchmark.prepare import Models
from aqd_mmdet.errors import UserError

TINY = Chain('tiny', ((8, 8),), 3, (6, 6))
OURS = EngineSpec('aqd-2', 'aqd 2 bits', 'aqd', 'aqd2')


def test_share_that_other_processes_take(monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 4)
    assert measure.taken_away(2.0, 1.0, 2) == 0
    assert measure.taken_away(2.0, 1.0, 4) == 0.5
    assert measure.taken_away(3.0, 1.0, 2) == 0.25
    assert measure.taken_away(-0.01, 1.0, 4) == 0


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, 'TURN_S', 0.01)
    monkeypatch.setattr(measure, 'WAIT_S', 0.0)


def run(tmp_path, engines, rounds=2):
    steps = []
    models = Models(tmp_path, tmp_path, lambda text: None)
    rows = measure.rows(
        TINY,
        engines,
        {e.model: models.files(TINY, e.model) for e in engines},
        models.macs(TINY),
        1,
        rounds,
        tmp_path / 'log',
        lambda text: None,
        steps.append,
    )
    return rows, steps


def test_run(tmp_path, quick):
    portable = EngineSpec('p', 'p', 'aqd', 'aqd8', {'AQD_ISA': 'portable'})
    rows, steps = run(tmp_path, [OURS, portable])
    assert [row.engine for row in rows] == ['aqd-2', 'p']
    for row in rows:
        assert row.low <= row.latency <= row.high
        assert row.runs >= row.rounds >= 1
        assert row.macs == TINY.macs
        assert row.file > 0
    assert sum(steps) == 4


def test_engine_that_fails(tmp_path, quick):
    wrong = EngineSpec('wrong', 'w', 'aqd', 'aqd2', {'AQD_ISA': 'none'})
    with pytest.raises(
        UserError, match='^wrong: UserError: .*AQD_ISA: expected'
    ):
        run(tmp_path, [wrong])
