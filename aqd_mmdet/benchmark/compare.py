"""Compares quantisers of one detector: accuracy, speed, size and time."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import UserError, first_line
from ..files import write_all
from ..progress import progress
from .accuracy import (
    Detect,
    average_precision,
    detect_by_mmdet,
    detect_by_network,
    detect_by_program,
    load_network,
)
from .cases import Network
from .engines import EngineSpec
from .machine import Machine
from .measure import OTHERS_LIMIT, Row, rows
from .quantizers import (
    QuantizerSpec,
    Source,
    count_float_convolutions,
    files_of,
)

COLUMNS = (
    'quantiser', 'AP', 'against float', 'ms', 'least', 'MB', 'seconds',
    'float convolutions',
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Figures of one quantiser.

    Attributes:
        name: Of the quantiser.
        title: Name in the table.
        ap: COCO's box AP in per cent.
        seconds: Time of quantising, from files of pictures to the written
            file; None for the float network.
        size: Bytes of all files; None for MMDetection.
        float_convolutions: Number of convolutions that run in float; None
            for float networks.
        latency: Figures of the network alone; None before the measurement,
            and for MMDetection.
    """

    name: str
    title: str
    ap: float
    seconds: float | None = None
    size: int | None = None
    float_convolutions: int | None = None
    latency: Row | None = None


@dataclass(frozen=True)
class Comparison:
    """All results so far.

    Attributes:
        machine: The machine.
        threads: Threads of each library.
        config: Name of the config.
        size: Height and width of the image that was timed, in pixels.
        calibration_pictures: Number of pictures to calibrate with.
        test_pictures: Number of pictures of the AP.
        results: MMDetection's first.
    """

    machine: Machine
    threads: int
    config: str
    size: tuple[int, int]
    calibration_pictures: int
    test_pictures: int
    results: tuple[Result, ...]


def compare(
    specs: Sequence[QuantizerSpec],
    source: Source,
    folder: Path,
    threads: int,
    rounds: int,
    report: Callable[[Sequence[Result]], None],
) -> list[Result]:
    """Quantise by each quantiser, test all, and time all networks together.

    Args:
        specs: The quantisers.
        source: What they start from.
        folder: Folder of their files.
        threads: Threads of each library.
        rounds: Turns of each network.
        report: Called with the results so far.

    Raises:
        UserError: If a library fails.
    """
    detect = detect_by_mmdet(source.dataset, source.detector)
    ap = average_precision(source.dataset, detect, 'mmdet')
    results = [Result('mmdet', 'float32, by MMDetection', ap)]
    report(results)
    files: dict[str, Path] = {}
    for number, spec in enumerate(specs, 1):
        print(f'{spec.name} ({number} of {len(specs)})', flush=True)
        with _named(spec):
            result, files[spec.name] = _try(spec, source, folder, threads)
        results.append(result)
        report(results)
    timed = _time(specs, source, files, folder, threads, rounds)
    return [replace(x, latency=timed.get(x.name)) for x in results]


@contextmanager
def _named(spec: QuantizerSpec) -> Iterator[None]:
    """Let errors of libraries be the user's, with the quantiser's name."""
    try:
        yield
    except UserError as error:
        raise UserError(f'{spec.name}: {error}') from None
    except Exception as error:  # libraries raise errors of any kind
        reason = first_line(error)
        raise UserError(
            f'{spec.name}: {type(error).__name__}: {reason}; leave it out by '
            '--quantizers'
        ) from error


def _try(
    spec: QuantizerSpec, source: Source, folder: Path, threads: int
) -> tuple[Result, Path]:
    """Quantise and test; return the result and the file."""
    path, seconds, floats = source.network, None, None
    if spec.quantize is not None:
        path = folder / f'{spec.name}{spec.suffix}'
        begin = time.perf_counter()
        spec.quantize(source, path)
        seconds = time.perf_counter() - begin
        floats = count_float_convolutions(spec, path)
    detect = _detector(spec, source, path, threads)
    return Result(
        spec.name,
        spec.title,
        average_precision(source.dataset, detect, spec.name),
        seconds,
        sum(file.stat().st_size for file in files_of(spec, path)),
        floats,
    ), path


def _detector(
    spec: QuantizerSpec, source: Source, path: Path, threads: int
) -> Detect:
    if spec.library == 'aqd':
        return detect_by_program(source.dataset, path, threads)
    network = load_network(spec.library, path, threads)
    return detect_by_network(
        source.dataset, source.detector, network, source.levels
    )


def _time(
    specs: Sequence[QuantizerSpec],
    source: Source,
    files: dict[str, Path],
    folder: Path,
    threads: int,
    rounds: int,
) -> dict[str, Row]:
    """Time all networks in interleaved rounds; return rows by name."""
    engines = [EngineSpec(x.name, x.title, x.library, x.name) for x in specs]
    with progress(total=rounds * len(specs), unit='turn') as bar:
        timed = rows(
            Network('network', source.size),
            engines,
            {name: [path] for name, path in files.items()},
            0,  # rates are not shown
            threads,
            rounds,
            folder / 'timing.log',
            bar.set_description_str,
            bar.update,
        )
    return {row.engine: row for row in timed}


def _cells(result: Result, base: float) -> list[str]:
    row = result.latency
    shown = [
        result.title,
        f'{result.ap:.2f}',
        '' if result.name == 'mmdet' else f'{result.ap - base:+.2f}',
        '' if row is None else f'{1e3 * row.latency:.1f}',
        '' if row is None else f'{1e3 * row.least:.1f}',
        '' if result.size is None else f'{result.size / 1e6:.2f}',
        '' if result.seconds is None else f'{result.seconds:.0f}',
    ]
    floats = result.float_convolutions
    return [*shown, '' if floats is None else str(floats)]


def table(results: Sequence[Result]) -> list[str]:
    """Return the table in Markdown.

    Args:
        results: MMDetection's first.
    """
    lines = [_cells(result, results[0].ap) for result in results]
    return [
        f'| {" | ".join(COLUMNS)} |',
        f'|---{"|---:" * (len(COLUMNS) - 1)}|',
        *(f'| {" | ".join(line)} |' for line in lines),
    ]


def document(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    machine, (height, width) = comparison.machine, comparison.size
    versions = ', '.join(f'{k} {v}' for k, v in machine.packages.items())
    lines = [
        f'{comparison.config}: {comparison.calibration_pictures} pictures to '
        f'calibrate with, AP on {comparison.test_pictures}, times of '
        f'{height}x{width}.',
        '',
        f'{machine.processor}; {machine.cores} cores, threads of each '
        f'library: {comparison.threads}; {" ".join(machine.flags)}; '
        f'{versions}.',
        '',
    ]
    disturbed = [
        x.name
        for x in comparison.results
        if x.latency is not None and x.latency.others > OTHERS_LIMIT
    ]
    if disturbed:
        lines += [f'Disturbed by other processes: {", ".join(disturbed)}.', '']
    return '\n'.join([*lines, *table(comparison.results)]) + '\n'


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison as JSON and Markdown and return the paths.

    Args:
        comparison: The comparison.
        folder: Folder of the files. Earlier files are replaced.
    """
    contents = {
        'quantizers.json': json.dumps(asdict(comparison), indent=1).encode(),
        'quantizers.md': document(comparison).encode(),
    }
    return write_all(folder, contents)
