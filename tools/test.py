"""Evaluate a detector: mmdet's tools/test.py with checks before the start."""

import argparse
from pathlib import Path

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmengine.dist import is_main_process

from aqd_mmdet.config import labels_of
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.checkpoint import check_checkpoint
from aqd_mmdet.engine.compiled_model import use_compiled
from aqd_mmdet.errors import UserError, one_line


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument(
        'checkpoint', help='checkpoint file, or a compiled model.aqd'
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
    """Check config, dataset and checkpoint, then evaluate.

    Raises:
        UserError: If one of them is not valid.
    """
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: give a name that ends in .pkl')
    cfg = launch.read_config(args)
    is_compiled = args.checkpoint.endswith('.aqd')
    if is_compiled and args.tta:
        raise UserError(
            f'--tta: {args.checkpoint} is a compiled detector, which has no '
            'test-time augmentation; leave --tta out'
        )
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    if is_main_process():
        preflight.check_data(cfg, ['test'])
    if is_compiled:
        use_compiled(cfg, Path(args.checkpoint))
    elif args.tta:
        launch.use_tta(cfg)
    runner = launch.build_runner(cfg)
    if is_main_process():
        preflight.check_pipelines(runner, ['test'])
        if '://' not in args.checkpoint and not is_compiled:
            check_checkpoint(
                args.checkpoint,
                runner.model,
                for_training=False,
                labels=labels_of(cfg, 'test'),
            )
    if args.out:
        runner.test_evaluator.metrics.append(
            DumpDetResults(out_file_path=args.out)
        )
    runner.test()
    launch.leave()


if __name__ == '__main__':
    main()
