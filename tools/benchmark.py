"""Measure the engine beside others, interleaved: tables, JSON, a picture."""

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
from aqd_mmdet.benchmark.measure import rows
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
        help=f'all, unless named: {", ".join(case.name for case in CASES)}',
    )
    parser.add_argument(
        '--engines',
        nargs='+',
        default=[],
        metavar='ENGINE',
        help='all that this machine can run, unless named; a wrong name '
        'lists them',
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=len(os.sched_getaffinity(0)),
        help='of each engine; the default is the number of cores',
    )
    parser.add_argument(
        '--rounds', type=int, default=11, help='turns of each engine'
    )
    benchmark(parser.parse_args())


def benchmark(args: argparse.Namespace) -> None:
    """Measure case after case; each is written when it is done."""
    if args.threads < 1 or args.rounds < 1:
        raise UserError('--threads and --rounds: 1 or more')
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
    found: list = []
    total = len(cases) * len(engines) * args.rounds
    with (
        tempfile.TemporaryDirectory(dir=args.out) as folder,
        progress(total=total, unit='turn') as bar,
    ):
        models = Models(
            ROOT / 'configs', Path(folder), bar.set_description_str
        )
        for case in cases:
            found += rows(
                case,
                engines,
                models,
                args.threads,
                args.rounds,
                log,
                bar.set_description_str,
                bar.update,
            )
            made = report.Report(
                machine,
                args.threads,
                Energy().missing,
                tuple(cases),
                tuple(engines),
                tuple(found),
            )
            paths = report.write(made, args.out)
    print(report.document(made))
    print('\n'.join(map(str, paths)))


if __name__ == '__main__':
    main()
