"""Compare quantisers after training: CONFIG CHECKPOINT --images FOLDER"""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from aqd_mmdet.benchmark.accuracy import build_dataset
from aqd_mmdet.benchmark.cases import select
from aqd_mmdet.benchmark.compare import (
    Comparison,
    Result,
    compare,
    document,
    write,
)
from aqd_mmdet.benchmark.engines import instruction_sets, need
from aqd_mmdet.benchmark.machine import describe
from aqd_mmdet.benchmark.quantizers import QUANTIZERS, make_source
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.float_detector import (
    add_arguments,
    find_pictures,
    load_float,
    use_onnx,
)
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import make_folder
from aqd_mmdet.models.heads import use_own_heads


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    add_arguments(parser)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/quantizers')
    )
    parser.add_argument(
        '--quantizers',
        nargs='+',
        default=[],
        metavar='QUANTIZER',
        help='quantisers to compare; default: all of '
        f'{", ".join(spec.name for spec in QUANTIZERS)}',
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=len(os.sched_getaffinity(0)),
        help='threads of each library; default: the number of cores',
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=11,
        help='turns of each network in the timing; default: 11',
    )
    run(parser.parse_intermixed_args())


def run(args: argparse.Namespace) -> None:
    """Compare the quantisers; write the report after each of them."""
    for name in ('threads', 'rounds'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name} {getattr(args, name)}: give 1 or more')
    by_name = {spec.name: spec for spec in QUANTIZERS}
    names = select(args.quantizers, by_name, '--quantizers')
    specs = [by_name[name] for name in names]
    # ONNX is what the network is exported to, whoever quantises it.
    packages = ['onnx', *(x for spec in specs for x in spec.packages)]
    need(packages, 'choose other --quantizers')
    instruction_sets()  # refuses to go on without the engine
    use_onnx(args, print)
    cfg = launch.read_config(args)
    use_own_heads(cfg)
    preflight.check_data(cfg, ['test'])
    paths = find_pictures(cfg, args.images, args.max_images)
    torch.set_num_threads(args.threads)
    detector = load_float(cfg, args.checkpoint)
    dataset = build_dataset(cfg)
    make_folder(args.out)
    source = make_source(cfg, detector, dataset, paths, args.out)
    comparison = partial(
        Comparison,
        describe(),
        args.threads,
        Path(args.config).stem,
        source.size,
        len(paths),
        len(dataset),
    )

    def report(results: Sequence[Result]) -> None:
        write(comparison(tuple(results)), args.out)

    results = compare(
        specs, source, args.out, args.threads, args.rounds, report
    )
    whole = comparison(tuple(results))
    files = write(whole, args.out)
    print(document(whole))
    print('\n'.join(map(str, files)))


if __name__ == '__main__':
    main()
