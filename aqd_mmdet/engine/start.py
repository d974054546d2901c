"""What a training begins with: steps to take, and a folder of its own."""

import logging
from pathlib import Path
from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import print_log
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    ValLoop,
)

from ..errors import UserError, nearest
from .checkpoint import read_checkpoint
from .epoch_seed import EpochSeedHook

# What CocoMetric gives, after its prefix.
OF_BOXES = (
    *('bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75'),
    *('bbox_mAP_s', 'bbox_mAP_m', 'bbox_mAP_l'),
)


def check_steps(runner: Runner) -> None:
    """Check that a training would take a step.

    mmengine ends one that takes none as if it were finished, with a
    checkpoint of what it started from.

    Args:
        runner: The runner; its loop is built.

    Raises:
        UserError: Naming the option that leaves no step.
    """
    loop: Any = runner.train_loop
    if not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return
    loader: Any = loop.dataloader
    by_iterations = isinstance(loop, IterBasedTrainLoop)
    name = 'max_iters' if by_iterations else 'max_epochs'
    limit = getattr(loop, name)
    if limit < 1:
        raise UserError(
            f'train_cfg.{name}={limit}: there is nothing to train; give 1 or '
            'more'
        )
    # Other samplers than the default one may go on for ever.
    ends = not by_iterations or isinstance(loader.sampler, DefaultSampler)
    if ends and len(loader) == 0:
        raise UserError(
            f'train_dataloader: its {len(loader.dataset)} images fill no '
            f'batch of {loader.batch_sampler.batch_size}, and drop_last=True '
            'leaves out the rest: give a smaller batch_size, or '
            'drop_last=False'
        )


def check_followed(runner: Runner) -> None:
    """Check that a validation gives the metrics that hooks follow.

    Only of plain evaluators of boxes it is known before.

    Args:
        runner: The runner; its loops are built.

    Raises:
        UserError: Naming the hook's option and the nearest metrics.
    """
    loop: Any = runner.val_loop
    if type(loop) is not ValLoop or type(loop.evaluator) is not Evaluator:
        return
    metrics = loop.evaluator.metrics
    if not all(map(_is_of_boxes, metrics)):
        return
    known = [f'{m.prefix}/{name}' for m in metrics for name in OF_BOXES]
    for hook in runner.hooks:
        keys: list[str] = []
        option = 'save_best' if isinstance(hook, CheckpointHook) else 'monitor'
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            keys = hook.key_indicators
        elif isinstance(hook, EarlyStoppingHook):
            keys = [hook.monitor]
        for key in keys:
            if key != 'auto' and key not in known:
                raise UserError(
                    f'{type(hook).__name__}.{option}={key!r}: a validation '
                    f'has no such metric ({nearest(key, known)})'
                )


def _is_of_boxes(metric: Any) -> bool:
    return (
        type(metric) is CocoMetric
        and metric.metrics == ['bbox']
        and metric.metric_items is None
        and not metric.classwise
        and not metric.format_only
    )


def tell_of_the_seed(runner: Runner) -> None:
    """Say if a training that is stopped cannot be resumed exactly.

    The hook is not added: it takes no workers that live on, which the config
    of another package may have.

    Args:
        runner: The runner.
    """
    if not any(isinstance(hook, EpochSeedHook) for hook in runner.hooks):
        _warn(
            'the config has no EpochSeedHook: a run that is stopped and '
            'resumed draws other random numbers than one that is not; add '
            "default_hooks.epoch_seed=dict(type='aqd_mmdet.EpochSeedHook')"
        )


def tell_of_the_end(runner: Runner, path: str) -> None:
    """Say if nothing is left to train.

    Args:
        runner: The runner; its loop is built.
        path: Checkpoint that it will go on from.
    """
    loop: Any = runner.train_loop
    if not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return
    by_iterations = isinstance(loop, IterBasedTrainLoop)
    name, limit = (
        ('iter', loop.max_iters)
        if by_iterations
        else ('epoch', loop.max_epochs)
    )
    meta = read_checkpoint(path).get('meta')
    done = meta.get(name, 0) if isinstance(meta, dict) else 0
    if done >= limit:
        _warn(
            f'resume: checkpoint {path} is of {name} {done}, and train_cfg.'
            f'max_{name}s is {limit}: nothing is left to train'
        )


def tell_of_checkpoints(work_dir: Path) -> None:
    """Say if a training begins in the folder of another one.

    Args:
        work_dir: The folder.
    """
    files = (p for p in work_dir.glob('*.pth') if p.is_file())
    found = sorted(files, key=lambda p: p.stat().st_mtime)
    if found:
        _warn(
            f'work_dir {work_dir}: it has checkpoints of an earlier run, the '
            f'newest {found[-1].name}, and files of the same names are '
            'overwritten: give --resume to go on, or another --work-dir'
        )


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
