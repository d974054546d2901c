"""Evaluate a detector: mmdet's tools/test.py with checks before the start."""

import argparse
from copy import deepcopy
from pathlib import Path

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.config import Config
from mmengine.dist import is_main_process

from aqd_mmdet.config import labels_of, write_apart
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.checkpoint import check_checkpoint, downloaded
from aqd_mmdet.engine.comparison import check_equal, table
from aqd_mmdet.engine.compiled_model import KINDS, check_compiled, use_compiled
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import check_output, make_folder


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, a compiled model.aqd, or one of ONNX that '
        'tools/export.py wrote with --boxes',
    )
    parser.add_argument(
        '--exports',
        type=Path,
        nargs='+',
        default=[],
        help='files of ONNX that were exported of model.aqd with --boxes: '
        'prints a table of the metrics of all; a difference above 0.1 AP is '
        'an error',
    )
    parser.add_argument('--out', help='pickle file for the predictions')
    parser.add_argument(
        '--show', action='store_true', help='show the detections'
    )
    parser.add_argument(
        '--show-dir', help='folder below the work_dir for drawn detections'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds between images'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='detect in several versions of each image (test-time '
        'augmentation)',
    )
    test(parser.parse_args())


def test(args: argparse.Namespace) -> None:
    """Check config, dataset and files, then evaluate.

    Raises:
        UserError: If one of them is not valid, or the AP of an export is not
            that of its program.
    """
    check_options(args)
    cfg = launch.read_config(args)
    if (args.show or args.show_dir) and not (
        cfg.get('default_hooks') or {}
    ).get('visualization'):
        raise UserError(
            f'config {args.config}: --show and --show-dir need '
            "default_hooks.visualization=dict(type='DetVisualizationHook'); "
            'add it, or leave them out'
        )
    preflight.need_data(cfg, 'test', 'test_evaluator')
    if is_main_process():
        preflight.check_data(cfg, ['test'])
    paths = [downloaded(args.checkpoint), *map(str, args.exports)]
    if args.exports:
        for path in paths:  # before the work
            check_compiled(cfg, Path(path))
    metrics = {path: evaluate(args, deepcopy(cfg), path) for path in paths}
    if args.exports:
        if is_main_process():
            print(table(metrics))
        check_equal(metrics)
    launch.leave()


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and a file that cannot be.

    Raises:
        UserError: Naming the first of them.
    """
    if args.out:
        out = Path(args.out)
        make_folder(out.parent)  # as mmengine would, after the work
        suffix = '.pickle' if out.suffix == '.pickle' else '.pkl'
        check_output('--out', out, suffix)
    if is_compiled(args.checkpoint) and args.tta:
        raise UserError(
            f'--tta: {args.checkpoint} is a compiled detector, which has no '
            'test-time augmentation; leave --tta out'
        )
    if not args.exports:
        return
    if not args.checkpoint.endswith('.aqd'):
        raise UserError(
            f'--exports: expected a model.aqd that they are exports of, found '
            f'{args.checkpoint}'
        )
    for path in args.exports:
        if path.suffix != '.onnx':
            raise UserError(
                f'--exports {path}: give a name that ends in .onnx'
            )
    for name in ('out', 'show', 'show_dir'):
        if getattr(args, name):
            raise UserError(
                f'--{name.replace("_", "-")}: it is of one file, and '
                '--exports of several; leave one of them out'
            )


def is_compiled(path: str) -> bool:
    return Path(path).suffix in KINDS


def evaluate(
    args: argparse.Namespace, cfg: Config, path: str
) -> dict[str, float]:
    """Return the metrics of a checkpoint, a program or an export of one.

    Args:
        args: Of the command line.
        cfg: The whole config, changed in place.
        path: The file.

    Raises:
        UserError: If the file is not one of the config's detector.
    """
    cfg.load_from = path
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    if is_compiled(path):
        use_compiled(cfg, Path(path))
    elif args.tta:
        launch.use_tta(cfg)
    else:
        write_apart(cfg, 'test')
    runner = launch.build_runner(cfg)
    if is_main_process():
        preflight.check_pipelines(runner, ['test'])
        if not is_compiled(path):
            check_checkpoint(
                path,
                runner.model,
                for_training=False,
                labels=labels_of(cfg, 'test'),
            )
    if args.out:
        runner.test_evaluator.metrics.append(
            DumpDetResults(out_file_path=args.out)
        )
    return runner.test()


if __name__ == '__main__':
    main()
