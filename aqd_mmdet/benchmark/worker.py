"""A worker process that loads one engine and runs it on request.

Requests and answers are lines of JSON on standard input and standard output.
Output of the libraries is redirected to standard error.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import IO, Any

from ..errors import UserError
from .runners import LOAD, Run

# Pause after a turn. Idle threads of ONNX Runtime and OpenMP spin for some
# milliseconds, which must not disturb the next engine. Without spinning they
# would be slower.
REST_S = 0.05


@dataclass(frozen=True)
class Loaded:
    """Cost of loading.

    Attributes:
        seconds: Time from file to first result, summed over all files.
        peak: Peak resident memory of the process in bytes.
        boxes: Boxes found in a picture on the mean; None without pictures.
    """

    seconds: float
    peak: int
    boxes: float | None = None


@dataclass(frozen=True)
class Turn:
    """Times of one engine while the others are idle.

    Attributes:
        times: For each file, or each caller, the seconds of each run.
        wall: Elapsed seconds of all runs.
        cpu: CPU seconds of all runs.
    """

    times: tuple[tuple[float, ...], ...]
    wall: float
    cpu: float


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024
    raise AssertionError('/proc/self/status has no VmHWM')


def load(
    library: str, paths: list[str], shape: list[int], threads: int
) -> tuple[list[Run], Loaded]:
    """Load an engine's files and run each of them once."""
    runs = []
    begin = time.perf_counter()
    for path in paths:
        runs.append(LOAD[library](Path(path), tuple(shape), threads))
        runs[-1]()
    return runs, Loaded(time.perf_counter() - begin, peak_memory())


def take_turn(runs: list[Run], seconds: float, warm: bool) -> Turn:
    """Run all files alternately for a while, then pause.

    Args:
        runs: A function for each file.
        seconds: Duration. Each file runs at least once.
        warm: Whether to run each file once before the measurement. A long run
            does not need it, because its warm-up is a small part of it.
    """
    times: list[list[float]] = [[] for _ in runs]
    if warm:
        for run in runs:
            run()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    while not times[0] or time.perf_counter() - begin < seconds:
        for run, run_times in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            run_times.append(time.perf_counter() - start)
    wall = time.perf_counter() - begin
    cpu = time.process_time() - begin_cpu
    time.sleep(REST_S)
    return Turn(tuple(map(tuple, times)), wall, cpu)


def load_detector(
    library: str,
    paths: list[str],
    pictures: list[str],
    threads: int,
    callers: int,
) -> tuple[list[Run], Loaded]:
    """Load a detector for several callers and run it once on each picture.

    Args:
        library: Key of :data:`callers.CALLERS_OF`.
        paths: Its one file.
        pictures: Files of the pictures.
        threads: Processors that this process has from now on.
        callers: How many call at the same time.

    Returns:
        tuple: A function for each caller, and the cost of loading.
    """
    from .callers import load_callers, one_after_another, read_pictures

    images = read_pictures(pictures)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    begin = time.perf_counter()
    detects = load_callers(library, Path(paths[0]), threads, callers)
    detects[0](images[0])
    seconds = time.perf_counter() - begin
    for detect in detects[1:]:
        detect(images[0])
    count = sum(len(detects[0](image)[0]) for image in images)
    runs = [
        one_after_another(detect, images, number * len(images) // callers)
        for number, detect in enumerate(detects)
    ]
    return runs, Loaded(seconds, peak_memory(), count / len(images))


def take_turn_together(runs: list[Run], seconds: float, warm: bool) -> Turn:
    """Let callers run for a while, each in a thread of its own, then pause.

    Args:
        runs: A function for each caller.
        seconds: Duration. Each caller runs at least once.
        warm: Whether each runs once before the measurement.
    """
    barrier = Barrier(len(runs))

    def call(run: Run) -> tuple[float, ...]:
        times: list[float] = []
        if warm:
            run()
        barrier.wait()
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return tuple(times)

    with ThreadPoolExecutor(len(runs)) as pool:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        times = tuple(pool.map(call, runs))
        wall = time.perf_counter() - begin
        cpu = time.process_time() - begin_cpu
    time.sleep(REST_S)
    return Turn(times, wall, cpu)


TakeTurn = Callable[[float, bool], Turn]


def _load(request: dict[str, Any]) -> tuple[TakeTurn, Loaded]:
    if 'pictures' in request:
        runs, loaded = load_detector(**request)
        return partial(take_turn_together, runs), loaded
    runs, loaded = load(**request)
    return partial(take_turn, runs), loaded


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    turn: TakeTurn | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if 'load' in request:
                turn, loaded = _load(request['load'])
                answer = asdict(loaded)
            else:
                assert turn is not None
                answer = asdict(turn(*request['turn']))
        except Exception as error:  # libraries raise errors of any kind
            lines = str(error).strip().splitlines() or ['']
            answer = {'error': f'{type(error).__name__}: {lines[0]}'}
        print(json.dumps(answer), file=answers)


class Worker:
    """A worker process, seen from the process that sends requests.

    Args:
        name: Name of the engine, for messages.
        environment: Environment variables in addition to this process's own.
        log: File for the standard error of the worker.
    """

    def __init__(
        self, name: str, environment: dict[str, str], log: IO[str]
    ) -> None:
        self.name = name
        self._log = log.name
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **environment},
            # Ctrl-C interrupts only this process, which then ends the worker.
            start_new_session=True,
        )

    def load(
        self, library: str, paths: list[Path], shape: list[int], threads: int
    ) -> Loaded:
        """Load the engine's files in the worker."""
        arguments = dict(
            library=library,
            paths=list(map(str, paths)),
            shape=shape,
            threads=threads,
        )
        return Loaded(**self._ask(dict(load=arguments)))

    def load_detector(
        self,
        library: str,
        paths: list[Path],
        pictures: Sequence[str],
        threads: int,
        callers: int,
    ) -> Loaded:
        """Load a detector in the worker; see :func:`load_detector`."""
        arguments = dict(
            library=library,
            paths=list(map(str, paths)),
            pictures=list(pictures),
            threads=threads,
            callers=callers,
        )
        return Loaded(**self._ask(dict(load=arguments)))

    def turn(self, seconds: float, warm: bool) -> Turn:
        """Run the engine for a while; see :func:`take_turn`."""
        answer = self._ask(dict(turn=[seconds, warm]))
        answer['times'] = tuple(map(tuple, answer['times']))
        return Turn(**answer)

    def cpu(self) -> float:
        """Return the CPU seconds of the worker since its start."""
        stat = Path(f'/proc/{self._process.pid}/stat').read_text()
        user, system = stat.rsplit(')', 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')

    def close(self) -> None:
        """End the worker."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(f'{json.dumps(request)}\n')
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ''
        if not line:
            status = self._process.wait()
            raise UserError(
                f'{self.name}: its process ended with status {status} (out '
                f'of memory?); see {self._log}'
            )
        answer = json.loads(line)
        if 'error' in answer:
            raise UserError(f'{self.name}: {answer["error"]}')
        return answer


if __name__ == '__main__':
    main()
