"""Interleaved rounds: in each, every engine runs while the others idle."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from ..errors import UserError
from .cases import Case
from .engines import EngineSpec
from .layers import LONG, SHORT, Chain
from .machine import Energy
from .prepare import Models, openvino_float_convolutions
from .worker import Loaded, Turn, Worker

# Of one engine in one round; a run that takes longer is the only one.
TURN_S = 0.4
# Of one engine in all rounds of a case: a slow one takes part in fewer.
BUDGET_S = 60.0
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """One engine on one case.

    Attributes:
        case: Its name.
        engine: Its name.
        latency: Median of seconds.
        low: First quartile.
        high: Third quartile.
        runs: How many it is the median of.
        rounds: In how many rounds.
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
    runs: int
    rounds: int
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


def summary(values: list[float]) -> tuple[float, float, float]:
    """Return median, first and third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method='inclusive')
    return median(values), low, high


@dataclass
class _Runner:
    """A worker with what it has measured."""

    engine: EngineSpec
    worker: Worker
    loaded: Loaded
    files: list[Path]
    rounds: int
    turns: list[Turn]
    joules: list[float | None]
    cpu_start: float = 0.0
    cpu_turns: float = 0.0
    wall_turns: float = 0.0

    def take_turn(self, energy: Energy) -> None:
        slow = bool(self.turns) and self.turns[-1].wall > 4 * TURN_S
        begin, cpu = perf_counter(), self.worker.cpu()
        before = energy.read()
        turn = self.worker.turn(TURN_S, not slow)
        self.joules.append(energy.joules(before))
        wall = perf_counter() - begin
        self.cpu_turns += self.worker.cpu() - cpu
        self.wall_turns += wall
        self.turns.append(turn)
        if len(self.turns) == 1:
            most = max(LEAST_ROUNDS, int(BUDGET_S / wall))
            self.rounds = min(self.rounds, most)


def rows(
    case: Case,
    engines: list[EngineSpec],
    models: Models,
    threads: int,
    rounds: int,
    log: Path,
    say: Callable[[str], None],
    step: Callable[[], object],
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
        step: Called after each engine's turn, and for those left out.

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
        for number in range(rounds):
            for runner in runners:
                if number < runner.rounds:
                    say(f'{case.name}, {runner.engine.name}')
                    runner.take_turn(energy)
                step()
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
                _Runner(engine, worker, loaded, paths, rounds, [], [])
            )
        yield found


def _row(case: Case, runner: _Runner, macs: int, wall: float) -> Row:
    values = [x for turn in runner.turns for x in latencies(case, turn)]
    middle, low, high = summary(values)
    sizes = [path.stat().st_size for path in runner.files]
    is_chain = isinstance(case, Chain)
    idle_cpu = runner.worker.cpu() - runner.cpu_start - runner.cpu_turns
    in_turns = sum(turn.wall for turn in runner.turns)
    # Joules of a turn are of its warm-up and rest as well: shared by what it
    # spent on measured runs.
    joules = None
    if not is_chain and None not in runner.joules:
        spent = sum(x for x in runner.joules if x is not None)
        joules = spent * in_turns / runner.wall_turns / len(values)
    return Row(
        case.name,
        runner.engine.name,
        middle,
        low,
        high,
        len(values),
        len(runner.turns),
        macs,
        None if is_chain else runner.loaded.seconds,
        None if is_chain else runner.loaded.peak,
        (sizes[0] - sizes[1]) // (LONG - SHORT) if is_chain else sizes[0],
        sum(turn.cpu for turn in runner.turns) / in_turns,
        max(idle_cpu, 0.0) / max(wall - runner.wall_turns, 1e-9),
        joules,
    )
