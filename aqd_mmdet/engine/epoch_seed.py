"""Randomness as a function of seed and epoch, so that resuming is exact."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ..errors import UserError
from ..registry import HOOKS


def _seed_worker(worker_id: int) -> None:
    # PyTorch gives each worker of each epoch its own initial seed, drawn
    # from the main process; the libraries of augmentation follow it.
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every random generator anew before each epoch.

    A run that was killed and resumes at the start of an epoch then draws the
    same numbers as one that was never interrupted. (mmengine restores
    weights, optimiser and schedules, but no generator, and its workers
    repeat one sequence of augmentations in every epoch.)
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Take over the seeding of the data loader's workers and order."""
        loader = runner.train_dataloader
        if loader.num_workers and loader.persistent_workers:
            raise UserError(
                'train_dataloader.persistent_workers=True keeps random '
                'generators across epochs, which no checkpoint can restore: '
                'set it to False'
            )
        loader.worker_init_fn = _seed_worker
        # The loader was built before a checkpoint brought back its run's seed.
        for sampler in (loader.sampler, loader.batch_sampler.sampler):
            if hasattr(sampler, 'seed'):
                sampler.seed = runner.seed

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to resume what would go on in another way."""
        if runner._resume:
            _compare_schedules(runner, checkpoint)
            _tell_of_part(runner, checkpoint.get('meta') or {})

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, numpy and PyTorch from seed, epoch and rank."""
        key = [runner.seed or 0, runner.epoch, get_rank()]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


# What schedules count while they run; all else are their settings.
COUNTERS = ('last_step', 'verbose', 'base_values')


def _compare_schedules(runner: Runner, checkpoint: dict) -> None:
    """Raise if a checkpoint's schedules are not those of the config.

    mmengine takes over the checkpoint's, whatever the config says now: with
    more epochs the rate of a cosine would rise again.
    """
    schedules: Any = runner.param_schedulers
    kept: Any = checkpoint.get('param_schedulers')
    if not isinstance(schedules, list) or not isinstance(kept, list):
        return
    if len(schedules) != len(kept):
        raise UserError(
            f'resume: the checkpoint has {len(kept)} schedules, the config '
            f'{len(schedules)}: train with the config that it was begun with, '
            'or start from it by load_from'
        )
    for schedule, state in zip(schedules, kept, strict=True):
        for name, value in schedule.state_dict().items():
            if name.startswith('_') or name in COUNTERS or name not in state:
                continue
            if state[name] != value:
                raise UserError(
                    f'resume: {type(schedule).__name__}.{name} is '
                    f'{state[name]} in the checkpoint and {value} by the '
                    'config, and mmengine would go on with the former: train '
                    'with the config that it was begun with, or start from '
                    'it by load_from'
                )


def _tell_of_part(runner: Runner, meta: dict) -> None:
    """Say if a run goes on in another way than one that was not stopped."""
    for reason in _differences(runner, meta):
        runner.logger.warning(
            f'resume: {reason}, and the result is not that of a run that was '
            'never stopped'
        )


def _differences(runner: Runner, meta: dict) -> Iterator[str]:
    """Yield what a checkpoint does not bring back."""
    done, length = meta.get('iter', 0), len(runner.train_dataloader)
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        yield (
            'training by iterations has no epochs that are seeded anew: '
            'augmentations draw other numbers'
        )
    elif length and done % length:
        yield (
            f'{done} iterations are no whole number of epochs of {length}: '
            f'epoch {meta.get("epoch", 0) + 1} begins anew'
        )
    # Several optimisers are no matter of one number.
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    if done % counts:
        yield (
            f'optim_wrapper.accumulative_counts={counts} does not divide '
            f'{done} iterations: gradients of the last {done % counts} are in '
            'no checkpoint'
        )
