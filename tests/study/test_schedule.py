"""Which cells run, and when."""

from pathlib import Path

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.study.plan import Cell, Study, read_results
from aqd_mmdet.study.schedule import run_cells
from tests.study import stub


def study(*seeds: int) -> Study:
    cells = []
    for seed in seeds:
        cells += [
            Cell('m', 'd', 'float', seed, 'default', 'scratch'),
            Cell('m', 'd', 2, seed, 'default', 'finetune'),
        ]
    options = dict(schedule=dict(scratch={}, finetune={}))
    options['recipe'] = dict(default={})
    return Study(Path('study.py'), tuple(cells), '', options, {})


def run(tmp_path: Path, *seeds: int, jobs: int = 2, **options) -> dict:
    which, results = study(*seeds), tmp_path / 'results.jsonl'
    run_cells(which, which.cells, tmp_path, results, jobs, stub.run, **options)
    return read_results(results)


def test_cells_run_after_their_starts(tmp_path):
    results = run(tmp_path, 0, 1)
    assert len(results) == 4
    for seed in (0, 1):
        first = results[f'm-d-float-{seed}-default-scratch']
        second = results[f'm-d-2-{seed}-default-finetune']
        assert first['end'] <= second['begin']


def test_finished_cells_are_not_run_again(tmp_path):
    before = run(tmp_path, 0)
    assert run(tmp_path, 0) == before
    after = run(tmp_path, 0, 1)
    assert len(after) == 4
    assert before.items() <= after.items()


def test_a_cell_that_fails_does_not_stop_others(tmp_path):
    with pytest.raises(UserError, match='1 cells failed: m-d-float-9'):
        run(tmp_path, 9, 0)
    names = set(read_results(tmp_path / 'results.jsonl'))
    assert names == {cell.name for cell in study(0).cells}


def test_no_cell_is_started_when_the_time_is_over(tmp_path):
    assert run(tmp_path, 0, stop_after=0) == {}
