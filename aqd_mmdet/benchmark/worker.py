"""A worker process that loads one engine and runs it on request.

Requests and answers are lines of JSON on standard input and standard output.
Output of the libraries is redirected to standard error.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
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
    """

    seconds: float
    peak: int


@dataclass(frozen=True)
class Turn:
    """Times of one engine while the others are idle.

    Attributes:
        times: For each file, the seconds of each run.
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


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    runs: list[Run] = []
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if 'load' in request:
                runs, loaded = load(**request['load'])
                answer = asdict(loaded)
            else:
                answer = asdict(take_turn(runs, **request['turn']))
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

    def turn(self, seconds: float, warm: bool) -> Turn:
        """Run the engine for a while; see :func:`take_turn`."""
        answer = self._ask(dict(turn=dict(seconds=seconds, warm=warm)))
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
