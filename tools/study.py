"""Train and test all cells of a study: tools/study.py configs/study/NAME.py

A cell is a detector, its data, bits, seed, recipe and schedule. Finished cells
are kept, so that the same command goes on where it was stopped.
"""

import argparse
from pathlib import Path

from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.study.plan import choose, read_study
from aqd_mmdet.study.schedule import run_cells


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('study', type=Path, help='file of the study')
    parser.add_argument(
        '--cells',
        default='',
        metavar='REGEX',
        help='only cells whose name has it, and those that they start from',
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='cells at a time; default: 1'
    )
    parser.add_argument(
        '--out', type=Path, help='default: work_dirs/study/NAME'
    )
    parser.add_argument(
        '--results',
        type=Path,
        help='file of results, a line for each cell; default: OUT.jsonl',
    )
    parser.add_argument(
        '--stop-after',
        type=float,
        default=float('inf'),
        metavar='SECONDS',
        help='start no cell after that time',
    )
    parser.add_argument(
        '--list', action='store_true', help='print the cells and end'
    )
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f'--jobs {args.jobs}: give 1 or more')
    study = read_study(args.study)
    cells = choose(study, args.cells)
    if args.list:
        print('\n'.join(cell.name for cell in cells))
        return
    out = args.out or Path('work_dirs/study', args.study.stem)
    results = args.results or out.with_suffix('.jsonl')
    out.mkdir(parents=True, exist_ok=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    from aqd_mmdet.study.cell import run_logged

    run_cells(
        study, cells, out, results, args.jobs, run_logged, args.stop_after
    )
    print(results)


if __name__ == '__main__':
    main()
