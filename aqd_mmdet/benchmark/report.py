"""Writes the results as JSON, as Markdown and as a picture."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import parse_json, write_all
from .cases import CALLERS, Boxes, Case, Network
from .engines import EngineSpec
from .layers import Chain
from .machine import Machine
from .measure import OTHERS_LIMIT, Row
from .overview import Overview, behind, picture
from .overview import table as overview_table

# Processors that an idle engine may keep busy. Above this it disturbs others.
IDLE_LIMIT = 0.02
COLUMNS = (
    'engine', 'ms', 'quartiles', 'least', 'GMAC/s', '% of best int8',
    'faster than int8', 'faster than int8 held alike', 'faster than float32',
    'memory MiB', 'file MiB', 'first result s', 'joules',
)  # fmt: skip
# Of a case from bytes to boxes.
BOXES_COLUMNS = (
    'engine', 'ms', 'p99', 'least',
    *(f'pictures/s, {n} caller{"s" * (n > 1)}' for n in CALLERS),
    'faster than int8', 'faster than int8 held alike', 'faster than float32',
    'memory MiB', 'boxes',
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All results of a benchmark.

    Attributes:
        machine: The machine.
        threads: Threads of each engine.
        energy: Why there are no joules; empty if there are.
        cases: Cases to measure.
        engines: Engines to measure.
        rows: Figures of each engine on each case so far.
    """

    machine: Machine
    threads: int
    energy: str
    cases: tuple[Case, ...]
    engines: tuple[EngineSpec, ...]
    rows: tuple[Row, ...]

    def of(self, case: Case, callers: int = 1) -> list[tuple[EngineSpec, Row]]:
        """Return the rows of a case, each with its engine.

        Args:
            case: The case.
            callers: How many called at the same time.
        """
        engines = {engine.name: engine for engine in self.engines}
        return [
            (engines[row.engine], row)
            for row in self.rows
            if row.case == case.name and row.callers == callers
        ]


def best_int8(report: Report) -> float:
    """Return the highest 8-bit rate of any engine on any case, or 0.

    Times from bytes to boxes are not of multiplications alone.
    """
    is_int8 = {
        engine.name
        for engine in report.engines
        if engine.is_int8_peer or engine.model == 'aqd8'
    }
    return max(
        (
            row.rate
            for row in report.rows
            if row.engine in is_int8 and row.boxes is None
        ),
        default=0.0,
    )


def fastest(rows: Iterable[tuple[EngineSpec, Row]], kind: str) -> float | None:
    """Return the lowest latency of the peers of a kind; None without peers.

    Args:
        rows: Rows of one case.
        kind: ``int8`` or ``float``.
    """
    latencies = [
        row.latency
        for engine, row in rows
        if (engine.is_int8_peer if kind == 'int8' else engine.is_float_peer)
    ]
    return min(latencies, default=None)


def fastest_held(
    rows: Iterable[tuple[EngineSpec, Row]], instructions: str
) -> float | None:
    """Return the lowest latency of the int8 peers held to a set.

    Args:
        rows: Rows of one case.
        instructions: The set; empty for none, which holds no peer.
    """
    return (
        fastest(_held_to(rows, instructions), 'int8') if instructions else None
    )


def _held_to(
    rows: Iterable[tuple[EngineSpec, Row]], instructions: str
) -> list[tuple[EngineSpec, Row]]:
    return [x for x in rows if x[0].instructions == instructions]


def _ratio(base: float | None, row: Row) -> str:
    return '' if base is None else f'{base / row.latency:.2f}'


def _number(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'


def cells(
    engine: EngineSpec,
    row: Row,
    best: float,
    int8: float | None,
    held: float | None,
    float32: float | None,
) -> list[str]:
    """Return the cells of a row.

    Args:
        engine: The engine.
        row: Its figures.
        best: Rate that counts as 100 per cent, in GMAC/s.
        int8: Latency of the faster int8 peer in seconds.
        held: The same of peers held to the instructions of the engine.
        float32: Latency of the fastest float peer in seconds.
    """
    mib = 2**20
    return [
        engine.title,
        f'{row.latency * 1e3:.1f}',
        f'{row.low * 1e3:.1f}-{row.high * 1e3:.1f}',
        f'{row.least * 1e3:.1f}',
        f'{row.rate:.0f}',
        f'{100 * row.rate / best:.0f}' if best else '',
        _ratio(int8, row),
        _ratio(held, row),
        _ratio(float32, row),
        _number(None if row.peak is None else row.peak / mib, 0),
        _number(row.file / mib, 2),
        _number(row.load, 2),
        _number(row.joules, 2),
    ]


def boxes_cells(
    engine: EngineSpec,
    rows: list[Row],
    int8: float | None,
    held: float | None,
    float32: float | None,
) -> list[str]:
    """Return the cells of an engine from bytes to boxes.

    Args:
        engine: The engine.
        rows: Its figures, for each number of callers.
        int8: Latency of the faster int8 peer in seconds.
        held: The same of peers held to the instructions of the engine.
        float32: Latency of the fastest float peer in seconds.
    """
    alone = rows[0]
    return [
        engine.title,
        f'{alone.latency * 1e3:.1f}',
        f'{alone.p99 * 1e3:.1f}',
        f'{alone.least * 1e3:.1f}',
        *(f'{row.throughput:.1f}' for row in rows),
        _ratio(int8, alone),
        _ratio(held, alone),
        _ratio(float32, alone),
        _number(None if alone.peak is None else alone.peak / 2**20, 0),
        _number(alone.boxes, 0),
    ]


def table(report: Report, case: Case) -> list[str]:
    """Return a case's table in Markdown, without empty columns."""
    rows = report.of(case)
    int8, float32 = fastest(rows, 'int8'), fastest(rows, 'float')
    if isinstance(case, Boxes):
        columns = BOXES_COLUMNS
        rows_of = [
            {row.engine: row for _, row in report.of(case, callers)}
            for callers in CALLERS
        ]
        lines = [
            boxes_cells(
                engine,
                [x[engine.name] for x in rows_of],
                int8,
                fastest_held(rows, engine.instructions),
                float32,
            )
            for engine, _ in rows
        ]
    else:
        columns, best = COLUMNS, best_int8(report)
        lines = [
            cells(
                engine,
                row,
                best,
                int8,
                fastest_held(rows, engine.instructions),
                float32,
            )
            for engine, row in rows
        ]
    used = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    layout = ['|---', *('|---:' for _ in used[1:])]
    return [
        f'| {" | ".join(columns[i] for i in used)} |',
        f'{"".join(layout)}|',
        *(f'| {" | ".join(line[i] for i in used)} |' for line in lines),
    ]


def held(report: Report) -> list[str]:
    """Return which engines are held to some instructions, and which are not.

    Empty if none is.
    """
    sets = dict.fromkeys(
        engine.instructions for engine in report.engines if engine.instructions
    )

    def names(instructions: str) -> str:
        return ', '.join(
            engine.name
            for engine in report.engines
            if engine.instructions == instructions
        )

    lines = [f'Held to {name}: {names(name)}.' for name in sets]
    return ['', *lines, f'Not held: {names("") or "none"}.'] if lines else []


def overviews(report: Report) -> list[Overview]:
    """Return the overviews of all cases, of each set of instructions."""
    sets = dict.fromkeys(engine.instructions for engine in report.engines)
    found = []
    for case in report.cases:
        for instructions in sets:
            rows = _held_to(report.of(case), instructions)
            ours = {e.title: x.latency for e, x in rows if e.is_ours}
            if ours:
                suffix = f', held to {instructions}' if instructions else ''
                int8, float32 = fastest(rows, 'int8'), fastest(rows, 'float')
                title = f'{case.title}{suffix}'
                found.append(Overview(title, ours, int8, float32))
    return found


def document(report: Report) -> str:
    """Return all tables as Markdown."""
    machine = report.machine
    versions = ', '.join(f'{k} {v}' for k, v in machine.packages.items())
    all_cases = overviews(report)
    # None where all cases go from bytes to boxes.
    rate = best_int8(report)
    best = f' Best int8 rate of any engine: {rate:.0f} GMAC/s.' if rate else ''
    lines = [
        behind(all_cases),
        '',
        *overview_table(all_cases),
        '',
        f'{machine.processor}; {machine.cores} cores, {report.threads} '
        f'threads for each engine; {" ".join(machine.flags)}; {versions}.',
        '',
        f'Load of the machine before: {machine.load:.2f}. '
        f'Joules: {report.energy or "of the whole processor"}.{best}',
        *held(report),
    ]
    for warning, applies in (
        ('Not quiet while idle', lambda row: row.idle > IDLE_LIMIT),
        (
            'Disturbed by other processes',
            lambda row: row.others > OTHERS_LIMIT,
        ),
    ):
        # One name for all numbers of callers.
        names = dict.fromkeys(
            f'{x.engine} ({x.case})' for x in report.rows if applies(x)
        )
        if names:
            lines += ['', f'{warning}: {", ".join(names)}.']
    for case in report.cases:
        rows = report.of(case)
        if not rows:
            continue
        work = f'{rows[0][1].macs / 1e9:.1f} GMAC'
        if isinstance(case, Chain):
            work += ' for each'
        elif isinstance(case, Boxes):
            work += f', {len(case.pictures)} pictures'
        lines += ['', f'### {case.title}', '', f'{work}.', '']
        lines += table(report, case)
    return '\n'.join(lines) + '\n'


def write(report: Report, folder: Path) -> list[Path]:
    """Write a report in all formats and return the paths.

    Args:
        report: The report.
        folder: Folder of the files. Earlier files are replaced.
    """
    contents = {
        'benchmark.json': f'{_json(report)}\n'.encode(),
        'benchmark.md': document(report).encode(),
        'benchmark.png': picture(overviews(report)),
    }
    return write_all(folder, contents)


def _json(report: Report) -> str:
    content = asdict(report)
    for case in content['cases']:
        if 'pictures' in case:
            # Where they lie is nobody's business.
            case['pictures'] = [Path(x).name for x in case['pictures']]
    return json.dumps(content, indent=1)


def read(path: Path) -> Report:
    """Read a report from the JSON that :func:`write` wrote.

    Args:
        path: The file.

    Raises:
        UserError: If it is not one.
    """
    try:
        content = parse_json(path.read_text())
        machine = content['machine'] | dict(
            flags=tuple(content['machine']['flags'])
        )
        report = Report(
            Machine(**machine),
            content['threads'],
            content['energy'],
            tuple(_case(x) for x in content['cases']),
            tuple(EngineSpec(**x) for x in content['engines']),
            tuple(Row(**x) for x in content['rows']),
        )
        overviews(report)  # each row has its engine
        return report
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f'{path}: expected a benchmark.json of this version ({error!r}); '
            'measure again'
        ) from None


def _case(content: dict[str, Any]) -> Case:
    if 'network' in content:
        network = _network(content['network'])
        return Boxes(network, tuple(content['pictures']))
    if 'detector' in content:
        return _network(content)
    size = tuple(content.pop('size'))
    widths = tuple(tuple(x) for x in content.pop('widths'))
    return Chain(**content, size=size, widths=widths)


def _network(content: dict[str, Any]) -> Network:
    return Network(content['detector'], tuple(content['size']))
