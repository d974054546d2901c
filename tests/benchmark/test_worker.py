"""Turns of an engine, and a process that takes them."""

import pytest

from aqd_mmdet.benchmark import worker
from aqd_mmdet.errors import UserError


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    monkeypatch.setattr(worker, 'REST_S', 0)


@pytest.mark.parametrize('warm, first', [(False, 'ab'), (True, 'abab')])
def test_files_take_turns(warm, first):
    order = []
    runs = [lambda: order.append('a'), lambda: order.append('b')]
    # Each runs at least once.
    turn = worker.take_turn(runs, 0.0, warm)
    assert ''.join(order) == first
    assert [len(times) for times in turn.times] == [1, 1]
    assert turn.wall >= sum(sum(times) for times in turn.times) > 0


def test_a_turn_lasts_its_time():
    turn = worker.take_turn([lambda: None], 0.02, False)
    assert turn.wall >= 0.02
    assert len(turn.times[0]) > 1


def test_each_file_is_loaded_and_run_once(monkeypatch):
    calls = []

    def load(path, shape, threads):
        calls.append((str(path), shape, threads))
        return lambda: calls.append('run')

    monkeypatch.setitem(worker.LOAD, 'mine', load)
    runs, loaded = worker.load('mine', ['x', 'y'], [1, 3], 2)
    assert calls == [('x', (1, 3), 2), 'run', ('y', (1, 3), 2), 'run']
    assert len(runs) == 2
    assert loaded.peak > 2**20


def test_a_process_that_ended_is_named(tmp_path):
    with (tmp_path / 'log').open('w') as log:
        process = worker.Worker('mine', {}, log)
        process._process.kill()
        process._process.wait()
        with pytest.raises(UserError, match='^mine: its process ended .*-9'):
            process.turn(0.0, False)
        process.close()
