"""Turns of an engine, and a process that takes them."""

import os
import threading
from functools import partial

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.benchmark import worker
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.images import read_image
from tests.factories import detector


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


@pytest.mark.parametrize('warm', [False, True])
def test_callers_run_at_the_same_time(warm):
    together = threading.Barrier(2, timeout=10)
    counts = [0, 0]

    def run(number):
        counts[number] += 1
        together.wait()

    runs = [partial(run, 0), partial(run, 1)]
    turn = worker.take_turn_together(runs, 0.0, warm)
    assert [len(times) for times in turn.times] == [1, 1]
    assert counts == [1 + warm, 1 + warm]


def test_a_detector_has_a_function_for_each_caller(tmp_path, monkeypatch):
    whole, rng = detector(), np.random.default_rng(0)
    file.save(whole, tmp_path / 'model.aqd')
    pictures = []
    for number, shape in enumerate([(20, 31, 3), (16, 16, 3)]):
        pictures.append(tmp_path / f'{number}.png')
        image = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(image).save(pictures[-1])
    affinity = []
    monkeypatch.setattr(
        os, 'sched_setaffinity', lambda pid, cpus: affinity.append(cpus)
    )
    runs, loaded = worker.load_detector(
        'aqd', [tmp_path / 'model.aqd'], [*map(str, pictures)], 1, 2
    )
    assert [len(cpus) for cpus in affinity] == [1]
    found = Detector(whole, 1)([read_image(path, True) for path in pictures])
    counts = [len(x.boxes) for x in found]
    assert loaded.boxes == sum(counts) / 2
    # Callers begin with different pictures.
    for run, order in zip(runs, ([0, 1, 0], [1, 0, 1]), strict=True):
        for index in order:
            boxes = run().boxes
            assert np.array_equal(boxes, found[index].boxes)


def test_a_process_that_ended_is_named(tmp_path):
    with (tmp_path / 'log').open('w') as log:
        process = worker.Worker('mine', {}, log)
        process._process.kill()
        process._process.wait()
        with pytest.raises(UserError, match='^mine: its process ended .*-9'):
            process.turn(0.0, False)
        process.close()
