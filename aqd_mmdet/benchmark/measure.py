"""Measures engines in interleaved rounds.

In each round, every engine has one turn while the others are idle. Slow
changes of the machine's speed then affect all engines alike.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep

from .cases import CALLERS, Boxes, Case
from .engines import EngineSpec
from .figures import latencies, least, p99, summary, throughput
from .layers import LONG, SHORT, Chain
from .machine import Energy, busy_seconds
from .prepare import check_integer, openvino_float_convolutions
from .worker import Loaded, Turn, Worker

# Duration of a turn. A run that takes longer is the only one of its turn.
TURN_S = 0.4
# The same from bytes to boxes: enough runs for the slowest in a hundred, and
# the end of a turn, where some callers have finished, is a small part of it.
BOXES_TURN_S = 2.0
# Time of one engine in all rounds of a case. A slow engine takes part in fewer
# rounds, but in at least LEAST_ROUNDS.
BUDGET_S = 60.0
LEAST_ROUNDS = 3
# A turn is disturbed if other processes take more than this share of all
# processors from the engine. It is repeated in a later round.
OTHERS_LIMIT = 0.05
# Largest number of turns, as a multiple of the number of rounds.
PATIENCE = 2
# Longest wait for a quiet machine before a turn, and interval between checks.
WAIT_S, CHECK_S = 1.0, 0.2


@dataclass(frozen=True)
class Row:
    """Figures of one engine on one case.

    Attributes:
        case: Name of the case.
        engine: Name of the engine.
        callers: How many called at the same time.
        latency: Median time of a run in seconds.
        low: First quartile in seconds.
        high: Third quartile in seconds.
        least: Shortest time in seconds.
        p99: Time that 99 of 100 runs do not exceed, in seconds.
        throughput: Results per second of all callers.
        runs: Number of runs.
        rounds: Number of turns that the runs belong to.
        others: Share of all processors that other processes took from the
            engine.
        macs: Multiply-accumulates of a result.
        load: Seconds from file to first result; None for layers.
        peak: Peak memory of the process in bytes; None for layers.
        file: Size in bytes of the file, or of a layer's share of it.
        busy: Average number of busy processors in the engine's runs.
        idle: Average number of processors that the engine kept busy while it
            was idle.
        joules: Energy of a result; None without a counter.
        boxes: Boxes found in a picture on the mean; None of a network.
    """

    case: str
    engine: str
    callers: int
    latency: float
    low: float
    high: float
    least: float
    p99: float
    throughput: float
    runs: int
    rounds: int
    others: float
    macs: int
    load: float | None
    peak: int | None
    file: int
    busy: float
    idle: float
    joules: float | None
    boxes: float | None

    @property
    def rate(self) -> float:
        """Multiply-accumulates per second, in 10^9."""
        return self.macs / self.latency / 1e9


@dataclass(frozen=True)
class _Sample:
    """A turn with measurements from outside the worker.

    Attributes:
        turn: Measurements of the worker.
        others: Share of all processors that other processes took from the
            engine.
        joules: Energy of the whole turn; None without a counter.
        wall: Elapsed seconds of the whole turn.
        cpu: CPU seconds of the worker in the whole turn.
    """

    turn: Turn
    others: float
    joules: float | None
    wall: float
    cpu: float

    @property
    def is_quiet(self) -> bool:
        return self.others <= OTHERS_LIMIT


@dataclass
class _Runner:
    """A worker and its samples so far."""

    engine: EngineSpec
    worker: Worker
    loaded: Loaded
    files: list[Path]
    threads: int
    rounds: int
    turn_s: float
    samples: list[_Sample]
    cpu_start: float = 0.0

    @property
    def quiet(self) -> list[_Sample]:
        return [sample for sample in self.samples if sample.is_quiet]

    @property
    def is_waiting(self) -> bool:
        """Whether the engine needs another turn."""
        limit = PATIENCE * self.rounds
        return len(self.quiet) < self.rounds and len(self.samples) < limit

    def take_turn(self, energy: Energy) -> None:
        is_slow = bool(self.samples) and (
            self.samples[-1].turn.wall > 4 * self.turn_s
        )
        wait_for_quiet(self.threads)
        begin, before = perf_counter(), energy.read()
        cpu, own, busy = self.worker.cpu(), process_time(), busy_seconds()
        turn = self.worker.turn(self.turn_s, not is_slow)
        busy = busy_seconds() - busy
        cpu, own = self.worker.cpu() - cpu, process_time() - own
        wall = perf_counter() - begin
        others = taken_away(busy - cpu - own, wall, self.threads)
        self.samples.append(
            _Sample(turn, others, energy.joules(before), wall, cpu)
        )
        if len(self.samples) == 1:
            limit = max(LEAST_ROUNDS, int(BUDGET_S / wall))
            self.rounds = min(self.rounds, limit)

    def best_samples(self) -> list[_Sample]:
        """Return the quiet samples, or the least disturbed ones if there are
        too few quiet ones."""
        if len(self.quiet) >= min(LEAST_ROUNDS, self.rounds):
            return self.quiet
        return sorted(self.samples, key=lambda x: x.others)[: self.rounds]


def taken_away(busy: float, wall: float, threads: int) -> float:
    """Return the share of all processors that others take from an engine.

    Args:
        busy: CPU seconds of other processes.
        wall: Elapsed seconds.
        threads: Threads of the engine. Other processes take nothing away as
            long as they leave one processor for each thread.
    """
    cores = os.cpu_count() or 1
    free = max(cores - threads, 0)
    return max(busy / wall - free, 0.0) / cores


def wait_for_quiet(threads: int) -> None:
    """Wait until other processes leave enough processors, at most WAIT_S.

    Args:
        threads: Threads of the engine that runs next.
    """
    end = perf_counter() + WAIT_S
    while perf_counter() < end:
        busy = busy_seconds()
        sleep(CHECK_S)
        busy = busy_seconds() - busy
        if taken_away(busy, CHECK_S, threads) <= OTHERS_LIMIT:
            return


def rows(
    case: Case,
    engines: list[EngineSpec],
    files: dict[str, list[Path]],
    macs: int,
    threads: int,
    rounds: int,
    log: Path,
    say: Callable[[str], None],
    step: Callable[[int], object],
) -> list[Row]:
    """Measure a case and return a row for each engine.

    Args:
        case: The case.
        engines: Engines to measure.
        files: Model files by :attr:`EngineSpec.model`.
        macs: Multiply-accumulates of a result.
        threads: Threads of each engine.
        rounds: Quiet turns of each engine.
        log: File for the output of the workers.
        say: Called with the current step, for a progress bar.
        step: Called with the number of turns by which the work has advanced,
            0 after a disturbed turn.

    Raises:
        UserError: If an engine fails or runs a quantised layer in float.
    """
    if any(e.library == 'openvino' and e.is_int8_peer for e in engines):
        for path in files['int8.onnx']:
            floats = list(openvino_float_convolutions(path))
            check_integer('openvino', path, floats)
    return [
        row
        for callers in callers_of(case)
        for row in _rows_of(
            case,
            callers,
            engines,
            files,
            macs,
            threads,
            rounds,
            log,
            say,
            step,
        )
    ]


def callers_of(case: Case) -> tuple[int, ...]:
    """Return how many callers a case is measured with."""
    return CALLERS if isinstance(case, Boxes) else (1,)


def _rows_of(
    case: Case,
    callers: int,
    engines: list[EngineSpec],
    files: dict[str, list[Path]],
    macs: int,
    threads: int,
    rounds: int,
    log: Path,
    say: Callable[[str], None],
    step: Callable[[int], object],
) -> list[Row]:
    energy = Energy()
    with _runners(
        case, callers, engines, files, threads, rounds, log, say
    ) as runners:
        begin = perf_counter()
        for runner in runners:
            runner.cpu_start = runner.worker.cpu()
        while waiting := [x for x in runners if x.is_waiting]:
            for runner in waiting:
                say(f'{case.name}, {runner.engine.name}')
                runner.take_turn(energy)
                step(int(runner.samples[-1].is_quiet))
        # Slow and disturbed engines have fewer turns than planned.
        step(rounds * len(runners) - sum(len(x.quiet) for x in runners))
        wall = perf_counter() - begin
        return [_row(case, callers, x, macs, wall) for x in runners]


@contextmanager
def _runners(
    case: Case,
    callers: int,
    engines: list[EngineSpec],
    files: dict[str, list[Path]],
    threads: int,
    rounds: int,
    log: Path,
    say: Callable[[str], None],
) -> Iterator[list[_Runner]]:
    runners = []
    with ExitStack() as stack:
        messages = stack.enter_context(log.open('a'))
        for engine in engines:
            say(f'{case.name}, loading {engine.name}')
            worker = Worker(engine.name, engine.environment, messages)
            stack.callback(worker.close)
            paths = files[engine.model]
            turn_s = TURN_S
            if isinstance(case, Boxes):
                turn_s = BOXES_TURN_S
                loaded = worker.load_detector(
                    engine.library, paths, case.pictures, threads, callers
                )
            else:
                shape = [1, 3, *case.size]
                loaded = worker.load(engine.library, paths, shape, threads)
            runners.append(
                _Runner(
                    engine, worker, loaded, paths, threads, rounds, turn_s, []
                )
            )
        yield runners


def _row(
    case: Case, callers: int, runner: _Runner, macs: int, wall: float
) -> Row:
    samples = runner.best_samples()
    values = [x for sample in samples for x in latencies(case, sample.turn)]
    middle, low, high = summary(values)
    sizes = [path.stat().st_size for path in runner.files]
    is_chain = isinstance(case, Chain)
    run_wall = sum(sample.turn.wall for sample in samples)
    run_cpu = sum(sample.turn.cpu for sample in samples)
    idle_wall = wall - sum(sample.wall for sample in runner.samples)
    idle_cpu = runner.worker.cpu() - runner.cpu_start
    idle_cpu -= sum(sample.cpu for sample in runner.samples)
    return Row(
        case=case.name,
        engine=runner.engine.name,
        callers=callers,
        latency=middle,
        low=low,
        high=high,
        least=least(case, [sample.turn for sample in samples]),
        p99=p99(values),
        throughput=(
            1 / middle
            if is_chain
            else median(throughput(x.turn.times) for x in samples)
        ),
        runs=len(values),
        rounds=len(samples),
        others=sum(sample.others for sample in samples) / len(samples),
        macs=macs,
        load=None if is_chain else runner.loaded.seconds,
        peak=None if is_chain else runner.loaded.peak,
        file=(
            (sizes[0] - sizes[1]) // (LONG - SHORT) if is_chain else sizes[0]
        ),
        busy=run_cpu / run_wall,
        idle=max(idle_cpu, 0.0) / max(idle_wall, 1e-9),
        joules=None if is_chain else _joules(samples, len(values)),
        boxes=runner.loaded.boxes,
    )


def _joules(samples: list[_Sample], results: int) -> float | None:
    """Return the energy of a result, without the share of warm-up and pause.

    The shares are proportional to time.
    """
    total = 0.0
    for sample in samples:
        if sample.joules is None:
            return None
        total += sample.joules * sample.turn.wall / sample.wall
    return total / results
