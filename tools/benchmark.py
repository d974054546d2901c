"""Compare the engine's speed with other engines: tables, JSON, a picture."""

import argparse
import os
import tempfile
from pathlib import Path

from aqd_mmdet.benchmark import report
from aqd_mmdet.benchmark.cases import CASES, Network, select
from aqd_mmdet.benchmark.engines import (
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
    by_name = {case.name: case for case in CASES}
    cases = [by_name[x] for x in select(args.cases, by_name, '--cases')]
    known = all_engines(instruction_sets(), set(machine.flags))
    engine_of = {engine.name: engine for engine in known}
    names = select(args.engines, engine_of, '--engines')
    engines = [engine_of[name] for name in names]
    need_packages(engines, any(isinstance(x, Network) for x in cases))
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / 'benchmark.log'
    log.write_text('')
    results: list[Row] = []
    total = len(cases) * len(engines) * args.rounds
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


if __name__ == '__main__':
    main()
