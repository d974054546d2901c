"""A process that keeps one engine loaded and runs it when it is asked.

It talks in lines of JSON: requests on its standard input, answers on what
was its standard output; what libraries print goes to standard error.
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

# How long threads that wait for more work are let spin before the next
# engine's turn. ONNX Runtime and OpenMP stop within some milliseconds;
# forbidding it would slow them down.
REST_S = 0.05


@dataclass(frozen=True)
class Loaded:
    """What loading cost.

    Attributes:
        seconds: From file to the first result, of all files.
        peak: Most memory of the process so far, in bytes.
    """

    seconds: float
    peak: int


@dataclass(frozen=True)
class Turn:
    """What one engine did while the others were idle.

    Attributes:
        times: Seconds of each run, for each file.
        wall: Seconds of all of them.
        cpu: Seconds of processors in them.
    """

    times: tuple[tuple[float, ...], ...]
    wall: float
    cpu: float


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024
    raise AssertionError('no VmHWM')


def load(
    library: str, paths: list[str], shape: list[int], threads: int
) -> tuple[list[Run], Loaded]:
    """Load an engine's files and run each once."""
    runs = []
    begin = time.perf_counter()
    for path in paths:
        runs.append(LOAD[library](Path(path), tuple(shape), threads))
        runs[-1]()
    return runs, Loaded(time.perf_counter() - begin, peak_memory())


def take_turn(runs: list[Run], seconds: float, warm: bool) -> Turn:
    """Warm up, run all files in turns for a while, then rest.

    Args:
        runs: One for each file.
        seconds: How long; each is run once at least.
        warm: Whether each is run once before; slow ones warm themselves up.
    """
    times: list[list[float]] = [[] for _ in runs]
    if warm:
        for run in runs:
            run()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    while not times[0] or time.perf_counter() - begin < seconds:
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
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
        except Exception as error:  # of any library, of any kind
            lines = str(error).strip().splitlines() or ['']
            answer = {'error': f'{type(error).__name__}: {lines[0]}'}
        print(json.dumps(answer), file=answers)


class Worker:
    """A worker's side that asks.

    Args:
        name: Of its engine, for messages.
        environment: Variables of the process, beside this one's.
        log: Where its standard error goes.
    """

    def __init__(
        self, name: str, environment: dict[str, str], log: IO[str]
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, '-m', __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **environment},
            # Ctrl-C is for whoever asks.
            start_new_session=True,
        )

    def load(
        self, library: str, paths: list[Path], shape: list[int], threads: int
    ) -> Loaded:
        """Let it load its files."""
        asked = dict(
            library=library,
            paths=list(map(str, paths)),
            shape=shape,
            threads=threads,
        )
        return Loaded(**self._ask(dict(load=asked)))

    def turn(self, seconds: float, warm: bool) -> Turn:
        """Let it run for a while."""
        answer = self._ask(dict(turn=dict(seconds=seconds, warm=warm)))
        answer['times'] = tuple(map(tuple, answer['times']))
        return Turn(**answer)

    def cpu(self) -> float:
        """Return the seconds of processors that it has had."""
        stat = Path(f'/proc/{self._process.pid}/stat').read_text()
        user, system = stat.rsplit(')', 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')

    def close(self) -> None:
        """End it."""
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
                f'{self.name}: its process ended with {status} (out of '
                'memory?); see its log'
            )
        answer = json.loads(line)
        if 'error' in answer:
            raise UserError(f'{self.name}: {answer["error"]}')
        return answer


if __name__ == '__main__':
    main()
