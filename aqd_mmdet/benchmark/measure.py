"""Interleaved rounds: in each, every engine runs while the others idle."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time, sleep

from ..errors import UserError
from .cases import Case
from .engines import EngineSpec
from .layers import LONG, SHORT, Chain
from .machine import Energy, busy_seconds
from .prepare import Models, openvino_float_convolutions
from .worker import Loaded, Turn, Worker

# Of one engine in one round; a run that takes longer is the only one.
TURN_S = 0.4
# Of one engine in all rounds of a case: a slow one takes part in fewer.
BUDGET_S = 60.0
LEAST_ROUNDS = 3
# A turn in which other processes take this share of the processors from an
# engine's is taken again, in a later round, until there were so many times
# more turns than wanted. Before each there is a wait for a quiet machine, but
# no longer than that.
DISTURBED, PATIENCE = 0.05, 2
WAIT_S, LOOK_S = 1.0, 0.2


@dataclass(frozen=True)
class Row:
    """One engine on one case.

    Attributes:
        case: Its name.
        engine: Its name.
        latency: Median of seconds.
        low: First quartile.
        high: Third quartile.
        least: The shortest.
        runs: How many it is the median of.
        rounds: In how many rounds.
        others: Share of all processors that other processes took from those
            that the engine was told to use.
        macs: Multiplications of a result.
        load: Seconds from file to the first result; None for layers.
        peak: Most memory of the process in bytes; None for layers.
        file: Bytes of the file; of a layer, of its part.
        busy: Processors that were busy, on average.
        idle: The same while others had their turns.
        joules: Of one result; None without a counter.
    """

    case: str
    engine: str
    latency: float
    low: float
    high: float
    least: float
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

    @property
    def rate(self) -> float:
        """Multiplications of a second, in 10^9."""
        return self.macs / self.latency / 1e9


def latencies(case: Case, turn: Turn) -> list[float]:
    """Return the seconds of a case, from what a turn measured.

    Args:
        case: A network, or a chain: then of one link.
        turn: Of one file, or of a long and a short chain.
    """
    if not isinstance(case, Chain):
        return list(turn.times[0])
    long, short = turn.times
    return [
        (slow - fast) / (LONG - SHORT)
        for slow, fast in zip(long, short, strict=True)
    ]


def least(case: Case, turns: list[Turn]) -> float:
    """Return the least seconds of a case in all turns.

    Args:
        case: A network, or a chain: then of one link, from the least of both
            lengths, since the least difference would be of a slow short one.
        turns: Of one engine.
    """
    lowest = [
        min(x for turn in turns for x in turn.times[place])
        for place in range(len(turns[0].times))
    ]
    if not isinstance(case, Chain):
        return lowest[0]
    return (lowest[0] - lowest[1]) / (LONG - SHORT)


def summary(values: list[float]) -> tuple[float, float, float]:
    """Return median, first and third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method='inclusive')
    return median(values), low, high


@dataclass(frozen=True)
class _Taken:
    """A turn, with what was seen of it from outside.

    Attributes:
        turn: What the worker measured.
        others: Share of all processors that other processes took from those
            that the engine was told to use.
        joules: Of the whole turn; None without a counter.
        wall: Seconds of the whole turn.
        cpu: Seconds of processors that the worker had.
    """

    turn: Turn
    others: float
    joules: float | None
    wall: float
    cpu: float

    @property
    def is_quiet(self) -> bool:
        return self.others <= DISTURBED


@dataclass
class _Runner:
    """A worker with what it has measured."""

    engine: EngineSpec
    worker: Worker
    loaded: Loaded
    files: list[Path]
    threads: int
    rounds: int
    turns: list[_Taken]
    cpu_start: float = 0.0

    @property
    def quiet(self) -> list[_Taken]:
        return [taken for taken in self.turns if taken.is_quiet]

    @property
    def is_waiting(self) -> bool:
        """Whether it needs another turn."""
        most = PATIENCE * self.rounds
        return len(self.quiet) < self.rounds and len(self.turns) < most

    def take_turn(self, energy: Energy) -> None:
        slow = bool(self.turns) and self.turns[-1].turn.wall > 4 * TURN_S
        wait_for_quiet(self.threads)
        begin, before = perf_counter(), energy.read()
        cpu, own, busy = self.worker.cpu(), process_time(), busy_seconds()
        turn = self.worker.turn(TURN_S, not slow)
        busy = busy_seconds() - busy
        cpu, own = self.worker.cpu() - cpu, process_time() - own
        wall = perf_counter() - begin
        others = taken_away(busy - cpu - own, wall, self.threads)
        self.turns.append(
            _Taken(turn, others, energy.joules(before), wall, cpu)
        )
        if len(self.turns) == 1:
            most = max(LEAST_ROUNDS, int(BUDGET_S / wall))
            self.rounds = min(self.rounds, most)

    def used(self) -> list[_Taken]:
        """Return the quiet turns, or the least disturbed if those are few."""
        if len(self.quiet) >= min(LEAST_ROUNDS, self.rounds):
            return self.quiet
        return sorted(self.turns, key=lambda x: x.others)[: self.rounds]


def taken_away(busy: float, wall: float, threads: int) -> float:
    """Return the share of all processors that is missing to an engine.

    Args:
        busy: Seconds of processors that other processes had.
        wall: In how many seconds.
        threads: Processors that the engine was told to use.
    """
    cores = os.cpu_count() or 1
    free = max(cores - threads, 0)
    return max(busy / wall - free, 0.0) / cores


def wait_for_quiet(threads: int) -> None:
    """Return when other processes rest, or after some seconds all the same.

    Args:
        threads: That are to be undisturbed.
    """
    end = perf_counter() + WAIT_S
    while perf_counter() < end:
        busy = busy_seconds()
        sleep(LOOK_S)
        busy = busy_seconds() - busy
        if taken_away(busy, LOOK_S, threads) <= DISTURBED:
            return


def rows(
    case: Case,
    engines: list[EngineSpec],
    models: Models,
    threads: int,
    rounds: int,
    log: Path,
    say: Callable[[str], None],
    step: Callable[[int], object],
) -> list[Row]:
    """Measure a case.

    Args:
        case: What is run.
        engines: What runs it.
        models: Makes their files.
        threads: Of each engine.
        rounds: How often each has its turn.
        log: Where their messages are written.
        say: Told what is being done.
        step: Told how many of the wanted turns are done.

    Raises:
        UserError: If an engine fails or runs a quantised layer in float.
    """
    files = {e.model: models.files(case, e.model) for e in engines}
    macs = models.macs(case)
    if any(e.library == 'openvino' and e.is_int8_peer for e in engines):
        for path in files['int8.onnx']:
            found = list(openvino_float_convolutions(path))
            if found:
                raise UserError(
                    f'openvino left {len(found)} convolutions of {path.name} '
                    f'in float, {found[0]} for one'
                )
    energy = Energy()
    with _runners(case, engines, files, threads, rounds, log, say) as runners:
        begin = perf_counter()
        for runner in runners:
            runner.cpu_start = runner.worker.cpu()
        while waiting := [x for x in runners if x.is_waiting]:
            for runner in waiting:
                say(f'{case.name}, {runner.engine.name}')
                runner.take_turn(energy)
                step(int(runner.turns[-1].is_quiet))
        step(rounds * len(runners) - sum(len(x.quiet) for x in runners))
        wall = perf_counter() - begin
        return [_row(case, runner, macs, wall) for runner in runners]


@contextmanager
def _runners(
    case: Case,
    engines: list[EngineSpec],
    files: dict[str, list[Path]],
    threads: int,
    rounds: int,
    log: Path,
    say: Callable[[str], None],
) -> Iterator[list[_Runner]]:
    found = []
    with ExitStack() as stack:
        messages = stack.enter_context(log.open('a'))
        for engine in engines:
            say(f'{case.name}, loading {engine.name}')
            worker = Worker(engine.name, engine.environment, messages)
            stack.callback(worker.close)
            paths = files[engine.model]
            shape = [1, 3, *case.size]
            loaded = worker.load(engine.library, paths, shape, threads)
            found.append(
                _Runner(engine, worker, loaded, paths, threads, rounds, [])
            )
        yield found


def _row(case: Case, runner: _Runner, macs: int, wall: float) -> Row:
    used = runner.used()
    values = [x for taken in used for x in latencies(case, taken.turn)]
    middle, low, high = summary(values)
    sizes = [path.stat().st_size for path in runner.files]
    is_chain = isinstance(case, Chain)
    in_runs = sum(taken.turn.wall for taken in used)
    outside = wall - sum(taken.wall for taken in runner.turns)
    idle = runner.worker.cpu() - runner.cpu_start
    idle -= sum(taken.cpu for taken in runner.turns)
    return Row(
        case.name,
        runner.engine.name,
        middle,
        low,
        high,
        least(case, [taken.turn for taken in used]),
        len(values),
        len(used),
        sum(taken.others for taken in used) / len(used),
        macs,
        None if is_chain else runner.loaded.seconds,
        None if is_chain else runner.loaded.peak,
        (sizes[0] - sizes[1]) // (LONG - SHORT) if is_chain else sizes[0],
        sum(taken.turn.cpu for taken in used) / in_runs,
        max(idle, 0.0) / max(outside, 1e-9),
        None if is_chain else _joules(used, len(values)),
    )


def _joules(used: list[_Taken], results: int) -> float | None:
    """Return the joules of a result; warm-up and rest have their share."""
    total = 0.0
    for taken in used:
        if taken.joules is None:
            return None
        total += taken.joules * taken.turn.wall / taken.wall
    return total / results
