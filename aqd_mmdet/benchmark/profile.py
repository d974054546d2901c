"""Where the time of a detector's network goes: a profile of its operators."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from ..errors import UserError
from ..files import write_all
from ..program import file
from ..program.detector import CompiledDetector
from ..runtime.engine import (
    ISA_VARIABLE,
    Engine,
    OpProfile,
    instruction_sets,
    library,
)
from ..runtime.images import read_image
from ..runtime.preprocess import check_image, chosen_size, prepare
from . import peaks
from .machine import Machine, describe
from .peaks import Peaks

COLUMNS = (
    'operator', 'kernel', 'output', 'ms', 'least', '% of sum', 'GMAC/s', 'kB',
    'GB/s', 'bound ms', 'by', '% of bound',
)  # fmt: skip
KIND_COLUMNS = (
    'kernel', 'operators', 'ms', 'least', '% of sum', 'GMAC', 'GMAC/s', 'MB',
    'GB/s', 'bound ms', '% of bound',
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """An operator, or all of a kind.

    Attributes:
        name: Of the operator, or of the kind.
        kind: The kernel.
        shape: Channels, height and width of the output; none of a kind.
        count: How many operators these are.
        seconds: Median of all runs.
        least: The least of them.
        macs: Multiply-accumulates.
        bytes: What is read and written.
        bound: The least time in seconds.
        limit: What needs that, ``products`` or ``memory``; none of a kind.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    count: int
    seconds: float
    least: float
    macs: int
    bytes: int
    bound: float
    limit: str


@dataclass(frozen=True)
class Profile:
    """A profile of a network.

    Attributes:
        machine: The machine.
        model: The file.
        size: Height and width of the network's image.
        isa: The instruction set.
        threads: Threads of a run.
        runs: Number of measured runs.
        peaks: What bounds are made of.
        whole: Median seconds of a run in which no operator is measured.
        least: The least of these.
        rows: The operators, in the order in which they run.
    """

    machine: Machine
    model: str
    size: tuple[int, int]
    isa: str
    threads: int
    runs: int
    peaks: Peaks
    whole: float
    least: float
    rows: tuple[Row, ...]

    @property
    def total(self) -> float:
        """Seconds of all operators."""
        return sum(row.seconds for row in self.rows)

    def kinds(self) -> list[Row]:
        """Return a row for each kind of operators, the slowest first."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        found = [
            merged(kind, [row for row in self.rows if row.kind == kind])
            for kind in kinds
        ]
        return sorted(found, key=lambda row: -row.seconds)


def merged(name: str, rows: Iterable[Row]) -> Row:
    """Return the sums of some operators' rows.

    Args:
        name: What they are called together.
        rows: The rows.
    """
    rows = list(rows)
    return Row(
        name,
        name,
        (),
        sum(row.count for row in rows),
        sum(row.seconds for row in rows),
        sum(row.least for row in rows),
        sum(row.macs for row in rows),
        sum(row.bytes for row in rows),
        sum(row.bound for row in rows),
        '',
    )


def network_input(
    compiled: CompiledDetector, image: Path | None, size: str | None
) -> np.ndarray:
    """Return what the network reads, uint8 (1, 3, H, W), channels innermost.

    Args:
        compiled: The detector.
        image: An image file, which is resized as the detector does; random
            pixels if there is none.
        size: Height and width of random pixels, ``HxW``. A file that resizes
            all images to one size needs none.

    Raises:
        UserError: If both are given, or the size is needed, is no size or is
            one that the network does not take.
    """
    pre, stride = compiled.preprocess, compiled.program.stride
    if image is not None:
        if size is not None:
            raise UserError('--image has a size: do not give --size as well')
        pixels = check_image(read_image(image, pre.oriented), str(image))
        values, _ = prepare(pixels, pre, stride)
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(
            0, 3, 1, 2
        )
    sides = chosen_size(size, pre, stride)
    # Channels are innermost in the engine.
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (1, *sides, 3), np.uint8).transpose(0, 3, 1, 2)


def profile(
    path: Path, image: Path | None, size: str | None, threads: int, runs: int
) -> Profile:
    """Measure the operators of a detector's network.

    Args:
        path: The file ``model.aqd``.
        image: See :func:`network_input`.
        size: See :func:`network_input`.
        threads: Threads of a run.
        runs: Number of measured runs.

    Raises:
        UserError: If the file or the size cannot be run, or the engine is not
            built.
    """
    compiled, content = file.load(path)
    values = network_input(compiled, image, size)
    if library() is None:
        raise UserError('the engine is not built: pip install builds it')
    engine = Engine(compiled, content, threads)
    program = compiled.program
    out = engine.run(program, values)
    whole, measured = [], []
    # In turn, so that slow changes of the machine's speed affect both alike.
    for _ in range(runs):
        begin = perf_counter()
        engine.run(program, values, out)
        whole.append(perf_counter() - begin)
        measured.append(engine.profile(program, values, out))
    best = peaks.measure(threads)
    height, width = values.shape[2:]
    return Profile(
        describe(),
        str(path),
        (height, width),
        os.environ.get(ISA_VARIABLE, instruction_sets()[0]),
        threads,
        runs,
        best,
        median(whole),
        min(whole),
        tuple(_row(ops, best) for ops in zip(*measured, strict=True)),
    )


def _row(ops: tuple[OpProfile, ...], best: Peaks) -> Row:
    """Return the row of an operator, given each of its runs."""
    first = ops[0]
    bound, limit = best.bound(first)
    times = [op.nanoseconds / 1e9 for op in ops]
    return Row(
        first.name,
        first.kind,
        first.shape,
        1,
        median(times),
        min(times),
        first.macs,
        first.bytes,
        bound,
        limit,
    )


def _rates(row: Row, total: float) -> tuple[list[str], str, str, str]:
    """Return both times and the share; GMAC/s; GB/s; % of the bound."""
    seconds = max(row.seconds, 1e-9)  # without a clock
    return (
        [
            f'{row.seconds * 1e3:.3f}',
            f'{row.least * 1e3:.3f}',
            f'{100 * row.seconds / max(total, 1e-9):.1f}',
        ],
        f'{row.macs / seconds / 1e9:.1f}' if row.macs else '',
        f'{row.bytes / seconds / 1e9:.1f}',
        f'{100 * row.bound / seconds:.0f}',
    )


def cells(row: Row, total: float) -> list[str]:
    """Return the cells of an operator, in the order of ``COLUMNS``."""
    times, macs, rate, part = _rates(row, total)
    return [
        row.name,
        row.kind,
        'x'.join(map(str, row.shape)),
        *times,
        *(macs, f'{row.bytes / 1e3:.1f}', rate),
        *(f'{row.bound * 1e3:.3f}', row.limit, part),
    ]


def kind_cells(row: Row, total: float) -> list[str]:
    """Return the cells of a kind, in the order of ``KIND_COLUMNS``."""
    times, macs, rate, part = _rates(row, total)
    return [
        *(row.name, str(row.count), *times),
        f'{row.macs / 1e9:.3f}' if row.macs else '',
        *(macs, f'{row.bytes / 1e6:.2f}', rate),
        *(f'{row.bound * 1e3:.3f}', part),
    ]


def _table(columns: tuple[str, ...], lines: list[list[str]]) -> list[str]:
    """Return a table in Markdown whose columns are aligned as text, too."""
    widths = [
        max(map(len, column)) for column in zip(columns, *lines, strict=True)
    ]
    is_text = [
        name in ('operator', 'kernel', 'output', 'by') for name in columns
    ]

    def line(items: Iterable[str]) -> str:
        padded = [
            item.ljust(width) if text else item.rjust(width)
            for item, width, text in zip(items, widths, is_text, strict=True)
        ]
        return f'| {" | ".join(padded)} |'

    rule = [
        f'{"-" * (width + 2)}' if text else f'{"-" * (width + 1)}:'
        for width, text in zip(widths, is_text, strict=True)
    ]
    return [line(columns), f'|{"|".join(rule)}|', *map(line, lines)]


def document(found: Profile) -> str:
    """Return a profile's tables as Markdown."""
    best, total = found.peaks, found.total
    rates = ', '.join(
        f'{rate / 1e9:.0f} G/s of {bits} bits'
        for bits, rate in best.products.items()
    )
    copies = ', '.join(
        f'{rate / 1e9:.0f} GB/s in {size / 1e6:.2g} MB'
        for size, rate in best.copies.items()
    )
    height, width = found.size
    both = merged('all', found.rows)
    return '\n'.join(
        [
            f'{found.model}, image of {height}x{width} (height x width); '
            f'{found.machine.processor}, {found.isa}, threads: '
            f'{found.threads}; median of {found.runs} runs.',
            '',
            f'Bounds: products {rates}; copies {copies}.',
            '',
            *_table(COLUMNS, [cells(row, total) for row in found.rows]),
            '',
            *_table(
                KIND_COLUMNS,
                [kind_cells(row, total) for row in (*found.kinds(), both)],
            ),
            '',
            f'Sum of the operators: median {total * 1e3:.3f} ms, least '
            f'{both.least * 1e3:.3f} ms. Whole run without measuring them: '
            f'median {found.whole * 1e3:.3f} ms, least '
            f'{found.least * 1e3:.3f} ms.',
            '',
        ]
    )


def write(found: Profile, folder: Path) -> list[Path]:
    """Write a profile as JSON and Markdown and return the paths.

    Args:
        found: The profile.
        folder: Folder of the files, which is made. Earlier files are replaced.
    """
    contents = {
        'profile.json': json.dumps(asdict(found), indent=1).encode(),
        'profile.md': document(found).encode(),
    }
    return write_all(folder, contents)
