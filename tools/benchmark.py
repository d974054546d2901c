"""Compare the engine's speed with other engines: tables, JSON, a picture."""

import argparse
import os
import tempfile
from pathlib import Path

from aqd_mmdet.benchmark import report
from aqd_mmdet.benchmark.callers import CALLERS_OF
from aqd_mmdet.benchmark.cases import (
    CALLERS,
    CASES,
    Boxes,
    Case,
    Network,
    select,
)
from aqd_mmdet.benchmark.engines import (
    EngineSpec,
    all_engines,
    instruction_sets,
    need_packages,
)
from aqd_mmdet.benchmark.machine import Energy, describe
from aqd_mmdet.benchmark.measure import Row, rows
from aqd_mmdet.benchmark.prepare import Models
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.progress import progress

ROOT = Path(__file__).parent.parent
# Of --images. Each engine's process holds all of them in memory.
MAX_PICTURES = 32


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default='work_dirs/benchmark')
    parser.add_argument(
        '--cases',
        nargs='+',
        default=[],
        metavar='CASE',
        help='cases to measure; default: all of '
        f'{", ".join(case.name for case in CASES)}',
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help='measure from bytes to boxes: pictures of this folder, in '
        "memory, to boxes, by one caller and by several; of MMDetection's "
        'detectors alone',
    )
    parser.add_argument(
        '--engines',
        nargs='+',
        default=[],
        metavar='ENGINE',
        help='engines to measure; default: all that this machine can run; a '
        'wrong name shows similar ones',
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=len(os.sched_getaffinity(0)),
        help='threads of each engine; default: the number of cores',
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=11,
        help='turns of each engine; default: 11',
    )
    benchmark(parser.parse_args())


def benchmark(args: argparse.Namespace) -> None:
    """Measure all cases; write the report after each of them."""
    for name in ('threads', 'rounds'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name} {getattr(args, name)}: give 1 or more')
    machine = describe()
    known = all_engines(instruction_sets(), set(machine.flags))
    if args.images is not None:
        known = [engine for engine in known if engine.library in CALLERS_OF]
    engine_of = {engine.name: engine for engine in known}
    names = select(args.engines, engine_of, '--engines')
    engines = [engine_of[name] for name in names]
    cases = chosen_cases(args, engines)
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / 'benchmark.log'
    log.write_text('')
    results: list[Row] = []
    callers = 1 if args.images is None else len(CALLERS)
    total = len(cases) * callers * len(engines) * args.rounds
    with (
        tempfile.TemporaryDirectory(dir=args.out) as folder,
        progress(total=total, unit='turn') as bar,
    ):
        models = Models(
            ROOT / 'configs', Path(folder), bar.set_description_str
        )
        for case in cases:
            results += rows(
                case,
                engines,
                {e.model: models.files(case, e.model) for e in engines},
                models.macs(case),
                args.threads,
                args.rounds,
                log,
                bar.set_description_str,
                bar.update,
            )
            summary = report.Report(
                machine,
                args.threads,
                Energy().missing,
                tuple(cases),
                tuple(engines),
                tuple(results),
            )
            paths = report.write(summary, args.out)
    print(report.document(summary))
    print('\n'.join(map(str, paths)))


def chosen_cases(
    args: argparse.Namespace, engines: list[EngineSpec]
) -> list[Case]:
    """Return the cases that a user chose, if the engines' packages are there.

    Args:
        args: The arguments.
        engines: Engines to measure.
    """
    boxes = args.images is not None
    known = {
        case.name: case
        for case in CASES
        if not boxes or (isinstance(case, Network) and case.source.is_zoo)
    }
    cases = [known[name] for name in select(args.cases, known, '--cases')]
    networks = [case for case in cases if isinstance(case, Network)]
    need_packages(engines, bool(networks), boxes)
    if not boxes:
        return list(cases)
    from mmengine.config import Config

    from aqd_mmdet.engine.float_detector import find_pictures

    paths = find_pictures(Config(), args.images, MAX_PICTURES)
    pictures = tuple(map(str, paths))
    return [Boxes(network, pictures) for network in networks]


if __name__ == '__main__':
    main()
