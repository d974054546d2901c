"""One detector that several threads use at a time."""

import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from aqd_mmdet.program import file
from aqd_mmdet.program.detector import (
    Anchors,
    CompiledDetector,
    Sigmoid,
    Softmax,
)
from aqd_mmdet.runtime import Detections, Detector
from aqd_mmdet.runtime.engine import Engine
from tests import kernels
from tests.factories import detector, narrow_program, noise
from tests.native import build_program
from tests.random_detectors import random_detector

THREADS, CALLS = 8, 200
# Seconds that all threads have, many times what they need.
LIMIT = 60
# Of this process: its second number is how many pages it has.
STATE = Path('/proc/self/statm')
SIZES = [(20, 30), (7, 9), (30, 20), (25, 25), (1, 3), (28, 11)]
EXAMPLES = {
    'one stage': (5, Anchors, Sigmoid, 0),
    'two stages': (7, Anchors, Softmax, 2),
}


def network() -> CompiledDetector:
    """A detector of many operators, whose boxes are none."""
    return replace(detector(), program=narrow_program())


def in_threads(work: Callable[[int], bool], count: int = THREADS) -> None:
    """Call work(number) in threads of their own; each shall return true."""
    passed = [False] * count

    def run(number: int) -> None:
        passed[number] = work(number)

    threads = [
        # Those that hang shall not keep the tests from ending.
        threading.Thread(target=run, args=(i,), daemon=True)
        for i in range(count)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + LIMIT
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    assert passed == [True] * count


def are_same(found: Detections, expected: Detections) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(found, expected, strict=True)
    )


def finds_the_same(
    runner: Detector,
    images: list[np.ndarray],
    alone: list[Detections],
    seed: int,
    calls: int = CALLS,
) -> bool:
    """Detect in images in a random order."""
    order = np.random.default_rng(seed).integers(0, len(images), calls)
    return all(are_same(runner(images[i]), alone[i]) for i in order)


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('example', EXAMPLES.values(), ids=EXAMPLES)
def test_one_detector_serves_many_threads(example, threads):
    runner = Detector(random_detector(*example), threads)
    images = [noise(i, *size) for i, size in enumerate(SIZES)]
    alone = [runner(image) for image in images]
    assert sum(len(found.labels) for found in alone) > 10
    in_threads(partial(finds_the_same, runner, images, alone))


# More threads than a job has shares for.
@pytest.mark.parametrize('threads', [1, 2, 5, 40])
def test_one_engine_runs_in_many_threads(threads):
    whole = network()
    runner = Engine(whole, file.to_bytes(whole), threads)
    shapes = [(1, 3, 64, 96), (2, 3, 32, 32), (1, 3, 96, 32)]
    batches = [
        torch.randint(0, 256, shape).to(torch.uint8).numpy()
        for shape in shapes
    ]
    alone = [runner.run(whole.program, pixels) for pixels in batches]

    def work(number: int) -> bool:
        # In turn with others, and again and again with one of its own.
        turns = [*(number + k for k in range(30)), *[number] * 10]
        for turn in turns:
            expected = alone[turn % len(batches)]
            found = runner.run(whole.program, batches[turn % len(batches)])
            if not all(
                np.array_equal(found[name], values)
                for name, values in expected.items()
            ):
                return False
        return True

    in_threads(work)


def test_a_fork_detects_while_threads_do():
    runner = Detector(random_detector(*EXAMPLES['two stages']), 2)
    images = [noise(i, *size) for i, size in enumerate(SIZES)]
    alone = [runner(image) for image in images]
    is_over = threading.Event()

    def work(number: int) -> bool:
        same = True
        while same and not is_over.is_set():
            same = finds_the_same(runner, images, alone, number, 10)
        return same

    def fork(number: int) -> bool:
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                detect_and_leave(runner, images, alone)
            codes.append(os.waitpid(child, 0)[1])
        is_over.set()
        return codes == [0] * 20

    in_threads(lambda number: (work if number else fork)(number))


def detect_and_leave(
    runner: Detector, images: list[np.ndarray], alone: list[Detections]
) -> None:
    """End this process, in time and with 0 if what is found is right."""
    signal.alarm(20)
    code = 1
    try:
        if finds_the_same(runner, images, alone, 0, 10):
            in_threads(
                lambda i: finds_the_same(runner, images, alone, i, 10), 2
            )
            del runner
            code = 0
    finally:
        os._exit(code)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason='one at a time here')
def test_a_call_does_not_wait_for_another():
    whole = network()
    runner = Engine(whole, file.to_bytes(whole), 1)
    single, batch = (np.zeros((n, 3, 64, 96), np.uint8) for n in (1, 1000))
    runner.run(whole.program, single)
    thread = threading.Thread(target=runner.run, args=(whole.program, batch))
    thread.start()
    times = [time.monotonic()]
    while thread.is_alive():
        runner.run(whole.program, single)
        times.append(time.monotonic())
    assert max(np.diff(times)) < (times[-1] - times[0]) / 2


@pytest.mark.skipif((os.cpu_count() or 1) > 8, reason='too many at a time')
def test_memory_is_that_of_the_calls_that_run_at_a_time():
    if not STATE.exists():
        pytest.skip(f'there is no {STATE} here')
    small, side = detector(), 1000
    pre = replace(small.preprocess, short=side, long=side)
    runner = Detector(replace(small, preprocess=pre), 2)
    image = noise(0, 50, 50)
    runner(image)
    alone = runner(image)

    def use() -> int:
        return int(STATE.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')

    before, most = use(), max(2, os.cpu_count() or 1)
    in_threads(lambda i: are_same(runner(image), alone), 4 * most)
    # Of a pixel its bytes, and six numbers of 32 bits that leave the network.
    each = (3 + 24) * side**2
    assert use() - before < (most - 0.5) * each


@pytest.fixture(scope='module')
def threads_program(tmp_path_factory) -> Path:
    """A program in C whose threads use one model, built with
    ThreadSanitizer."""
    folder = tmp_path_factory.mktemp('threads')
    return build_program(folder, 'threads.c', ('-fsanitize=thread',))


@pytest.mark.slow
@pytest.mark.parametrize('isa', kernels.names())
def test_a_thread_sanitizer_finds_nothing(threads_program, isa, tmp_path):
    detectors = [
        network(),
        *(random_detector(*example) for example in EXAMPLES.values()),
    ]
    # Callers and threads: callers alone, a queue, workers that help several.
    numbers = [(4, 1), (5, 3), (3, 6)]
    for compiled, (callers, threads) in product(detectors, numbers):
        path = tmp_path / 'model.aqd'
        file.save(compiled, path)
        result = run_in_place(
            *(threads_program, path, callers, threads),
            environment={'AQD_ISA': isa},
        )
        assert (result.returncode, result.stderr) == (0, '')


def run_in_place(
    *command: object, environment: dict[str, str]
) -> subprocess.CompletedProcess:
    """Run a program under ThreadSanitizer, which may not find its memory
    where the system puts it at random places."""
    words = [str(word) for word in command]
    fixed = ['setarch', platform.machine(), '-R', *words]
    for each in (words, fixed):
        result = subprocess.run(
            each, env={**os.environ, **environment}, capture_output=True,
            text=True, timeout=600,
        )  # fmt: skip
        moved = 'unexpected memory mapping' in result.stderr
        if not moved or shutil.which('setarch') is None:
            break
    return result
