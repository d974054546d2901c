"""Compare the engine's speed with other engines: tables, JSON, a picture.

With --profile: the time of each operator of a compiled detector. With --train:
what a step of training costs.
"""

import argparse
import os
import tempfile
from pathlib import Path

from aqd_mmdet.benchmark import (
    profile,
    report,
    training,
    training_variants,
)
from aqd_mmdet.benchmark.callers import CALLERS_OF
from aqd_mmdet.benchmark.cases import (
    CALLERS,
    CASES,
    Case,
    Network,
    boxes_case,
    select,
)
from aqd_mmdet.benchmark.engines import (
    EngineSpec,
    all_engines,
    instruction_sets,
    need,
    need_packages,
)
from aqd_mmdet.benchmark.machine import Energy, describe
from aqd_mmdet.benchmark.measure import Row, rows
from aqd_mmdet.benchmark.prepare import Models
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import check_folder, make_folder
from aqd_mmdet.models.recipe import FLOAT
from aqd_mmdet.progress import progress

ROOT = Path(__file__).parent.parent
# Of --images. Each engine's process holds all of them in memory.
MAX_PICTURES = 32
# No machine has more cores, and a system may not start many more.
MAX_THREADS = 1024
# What is measured in place of the engines' speed, and what it is given.
MODES = {'profile': 'MODEL', 'train': 'CONFIG'}
# The options that each of them alone reads; None: that of engines.
OPTIONS = {
    None: ('cases', 'engines', 'images'),
    'profile': ('image', 'size'),
    'train': ('batch', 'variants'),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the results; default: work_dirs/benchmark, with '
        '--profile none',
    )
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
        'memory, to boxes, by one caller and by several; RetinaNet and FCOS '
        'take those of 4:3',
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
        help='turns of each engine, or runs of a profile; default: 11',
    )
    add_report(parser)
    add_profile(parser)
    add_train(parser)
    return parser


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the option of a report of kept figures."""
    parser.add_argument(
        '--report',
        type=Path,
        metavar='JSON',
        help='measure nothing: write tables and picture of a kept '
        'benchmark.json again, beside it',
    )


@one_line
def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    if args.report is not None:
        for name, value in vars(args).items():
            if name != 'report' and value != parser.get_default(name):
                raise UserError(
                    f'--report does not go with --{name}: leave one of them '
                    'out'
                )
        kept = report.read(args.report)
        print('\n'.join(map(str, report.write(kept, args.report.parent))))
        return
    check(args)
    if args.profile is not None:
        profile_model(args)
    elif args.train is not None:
        compare_training(args)
    else:
        benchmark(args)


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison of trainings."""
    group = parser.add_argument_group('training')
    group.add_argument(
        '--train',
        type=Path,
        metavar='CONFIG',
        help='a config whose detector is trained, on one batch of its data',
    )
    group.add_argument(
        '--batch', type=int, help="images in it; default: the config's"
    )
    group.add_argument(
        '--variants',
        nargs='+',
        default=[],
        metavar='VARIANT',
        help=f'some of {", ".join(v.name for v in training_variants.VARIANTS)}'
        '; float is always one; default: all whose packages are installed',
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Add the options of a profile."""
    group = parser.add_argument_group('profile')
    group.add_argument(
        '--profile',
        type=Path,
        metavar='MODEL',
        help='a file model.aqd, whose operators are measured',
    )
    group.add_argument('--image', type=Path, help='what the network reads')
    group.add_argument(
        '--size',
        metavar='HxW',
        help="or random pixels of this size; default: the file's size, if it "
        'has one alone',
    )


def check(args: argparse.Namespace) -> None:
    """Refuse numbers and folders that cannot be, and options that nothing
    reads."""
    for name in ('threads', 'rounds'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name} {getattr(args, name)}: give 1 or more')
    if args.threads > MAX_THREADS:
        raise UserError(
            f'--threads {args.threads}: give {MAX_THREADS} or fewer'
        )
    if args.out is not None:
        check_folder('--out', args.out)
    modes = [n for n in MODES if getattr(args, n) is not None]
    if len(modes) > 1:
        raise UserError('--profile and --train: give one of them')
    mode = modes[0] if modes else None
    for owner, names in OPTIONS.items():
        for name in names:
            if owner == mode or not getattr(args, name):
                continue
            raise UserError(
                f'--{name} does not go with --{mode}: leave one of them out'
                if owner is None
                else f'--{name} needs --{owner} {MODES[owner]}'
            )
    if args.batch is not None and args.batch < 1:
        raise UserError(f'--batch {args.batch}: give 1 or more')


def profile_model(args: argparse.Namespace) -> None:
    """Print where the time of a detector's network goes."""
    found = profile.profile(
        args.profile, args.image, args.size, args.threads, args.rounds
    )
    print(profile.document(found), end='')
    if args.out is not None:
        print('', *profile.write(found, args.out), sep='\n')


def compare_training(args: argparse.Namespace) -> None:
    """Measure steps of training."""
    known = {variant.name: variant for variant in training_variants.VARIANTS}
    chosen = args.variants or [v.name for v in training_variants.installed()]
    names = select(chosen, known, '--variants')
    variants = [known[n] for n in known if n in names or n == FLOAT]
    need(
        [p for v in variants for p in training_variants.PACKAGES[v.library]],
        'choose other --variants',
    )
    options = {}
    if args.batch is not None:
        options['train_dataloader.batch_size'] = args.batch
    with progress(total=len(variants) * args.rounds, unit='turn') as bar:
        found = training.compare(
            args.train,
            options,
            variants,
            args.threads,
            args.rounds,
            bar.update,
        )
    print(training.document(found), end='')
    paths = training.write(found, args.out or Path('work_dirs/training'))
    print('', *paths, sep='\n')


def benchmark(args: argparse.Namespace) -> None:
    """Measure all cases; write the report after each of them."""
    args.out = args.out or Path('work_dirs/benchmark')
    machine = describe()
    known = all_engines(instruction_sets(), set(machine.flags))
    if args.images is not None:
        known = [engine for engine in known if engine.library in CALLERS_OF]
    engine_of = {engine.name: engine for engine in known}
    names = select(args.engines, engine_of, '--engines')
    engines = [engine_of[name] for name in names]
    cases = chosen_cases(args, engines)
    make_folder(args.out)
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
        case.name: case for case in CASES if not boxes or is_for_boxes(case)
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
    return [boxes_case(network, pictures) for network in networks]


def is_for_boxes(case: Case) -> bool:
    """Whether a case is measured from bytes to boxes: each detector once."""
    return isinstance(case, Network) and case.size == case.source.sizes[0]


if __name__ == '__main__':
    main()
