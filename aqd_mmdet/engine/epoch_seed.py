"""Randomness as a function of seed and epoch, so that resuming is exact."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

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

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, numpy and PyTorch from seed, epoch and rank."""
        key = [runner.seed or 0, runner.epoch, get_rank()]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
