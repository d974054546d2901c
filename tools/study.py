"""Train and test the cells of a study, or report what they have found.

A cell is a detector, its data, bits, seed, recipe and schedule. Finished cells
are kept, so that the same command goes on where it was stopped.
"""

import argparse
import signal
import sys
from pathlib import Path

from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import check_output, make_folder
from aqd_mmdet.study import report
from aqd_mmdet.study.plan import choose, read_results, read_study
from aqd_mmdet.study.schedule import run_cells


def stop(number: int, frame: object) -> None:
    """End, as Ctrl-C does, and by the first of several signals."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('study', type=Path, help='a file such as configs/study/low_bits.py')
    add(
        '--cells',
        default='',
        metavar='REGEX',
        help='only cells whose name has it, and those that they start from',
    )
    add('--jobs', type=int, default=1, help='cells at a time; default: 1')
    add('--out', type=Path, help='default: work_dirs/study/NAME')
    add('--results', type=Path, help='lines of results; default: OUT.jsonl')
    add(
        '--stop-after',
        type=float,
        default=float('inf'),
        metavar='SECONDS',
        help='start no cell after that time',
    )
    add('--list', action='store_true', help='print the names of cells')
    add(
        '--report',
        type=Path,
        metavar='FILE.md',
        help='write tables of the results, and a picture beside them',
    )
    return parser


@one_line
def main() -> None:
    args = _parser().parse_args()
    if args.jobs < 1:
        raise UserError(f'--jobs {args.jobs}: give 1 or more')
    if not args.stop_after >= 0:
        raise UserError(
            f'--stop-after {args.stop_after:g}: give a number of seconds'
        )
    study = read_study(args.study)
    cells = choose(study, args.cells)
    out = args.out or Path('work_dirs/study', args.study.stem)
    results = args.results or out.with_name(f'{out.name}.jsonl')
    if args.list:
        print('\n'.join(cell.name for cell in cells))
    elif args.report is not None:
        check_output('--report', args.report, '.md')
        report.write(study, read_results(results), args.report)
        print(args.report)
    else:
        # Loads PyTorch and MMDetection, which a report does not need.
        from aqd_mmdet.study.cell import check_libraries, run_logged

        check_libraries(study, cells)
        # A shell may have told a background process to ignore Ctrl-C.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        for folder in (out, results.parent):
            make_folder(folder)
        run_cells(
            study, cells, out, results, args.jobs, run_logged, args.stop_after
        )
        print(results)


if __name__ == '__main__':
    main()
