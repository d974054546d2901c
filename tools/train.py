"""Train a detector: mmdet's tools/train.py with checks before the start."""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from aqd_mmdet.config import labels_of
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.checkpoint import check_checkpoint, downloaded
from aqd_mmdet.engine.start import (
    check_followed,
    check_steps,
    tell_of_checkpoints,
    tell_of_the_end,
    tell_of_the_seed,
)
from aqd_mmdet.engine.training import take_shapes
from aqd_mmdet.errors import UserError, one_line


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='checkpoint to resume from; without a path, the latest one',
    )
    train(read_config(parser.parse_args()))


def read_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the options of the command line.

    Raises:
        UserError: If an option cannot be applied.
    """
    cfg = launch.read_config(args)
    if cfg.get('load_from'):
        cfg.load_from = downloaded(cfg.load_from)
    if args.amp:
        if not torch.cuda.is_available():
            raise UserError(
                '--amp: mixed precision needs a GPU, and PyTorch sees none'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError(
                f'config {args.config}: --auto-scale-lr needs '
                'auto_scale_lr.base_batch_size; set it'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        # If there is no checkpoint yet, training starts from the beginning.
        checkpoint = (
            launch.latest_checkpoint(cfg.work_dir)
            if args.resume == 'auto'
            else downloaded(args.resume)
        )
        if checkpoint is not None:
            # For TeacherHook: what mmengine resumes takes its place.
            cfg.setdefault('started_from', cfg.get('load_from'))
            cfg.resume, cfg.load_from = True, checkpoint
    return cfg


def train(cfg: Config) -> None:
    """Check datasets, disk space and checkpoint, then train."""
    preflight.need_data(cfg, 'train', 'optim_wrapper')
    if is_main_process():
        preflight.check_data(cfg, ['train', 'val'])
    runner = launch.build_runner(cfg)
    launch.build_optimizer(runner)
    start = cfg.get('load_from')
    if cfg.get('resume') and not start:  # mmengine finds it as well
        start = launch.latest_checkpoint(cfg.work_dir)
    if is_main_process():
        preflight.check_space(Path(cfg.work_dir), runner.model)
        preflight.check_pipelines(runner, ['train', 'val'])
        check_steps(runner)
        check_followed(runner)
        tell_of_the_seed(runner)
        resumes = bool(cfg.get('resume'))
        if not resumes:
            tell_of_checkpoints(Path(cfg.work_dir))
        if start:
            check_checkpoint(
                start,
                runner.model,
                for_training=not resumes,
                labels=labels_of(cfg, 'train') if resumes else None,
            )
            if resumes:
                tell_of_the_end(runner, start)
    if start:
        take_shapes(runner, start)
    runner.train()
    launch.leave()


if __name__ == '__main__':
    main()
