import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from aqd_mmdet.engine import EpochSeedHook
from aqd_mmdet.errors import UserError


class Draws(Dataset):
    """Each item is what the three generators draw."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return random.random(), np.random.rand(), torch.rand(()).item()


def epoch(workers: int, number: int, seed: int = 5) -> torch.Tensor:
    loader = DataLoader(Draws(), num_workers=workers)
    runner = SimpleNamespace(train_dataloader=loader, seed=seed, epoch=number)
    hook = EpochSeedHook()
    hook.before_train(runner)
    random.random()  # whatever happened before does not matter
    hook.before_train_epoch(runner)
    return torch.stack([torch.stack(x) for x in loader])


@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_draws_the_same_again(workers):
    assert torch.equal(epoch(workers, 3), epoch(workers, 3))


@pytest.mark.parametrize('workers', [0, 2])
def test_epochs_seeds_and_workers_differ(workers):
    draws = epoch(workers, 3)
    assert not torch.equal(draws, epoch(workers, 4))
    assert not torch.equal(draws, epoch(workers, 3, seed=6))
    assert draws.unique().numel() == draws.numel()


def test_persistent_workers_are_refused():
    loader = DataLoader(Draws(), num_workers=1, persistent_workers=True)
    runner = SimpleNamespace(train_dataloader=loader, seed=0, epoch=0)
    with pytest.raises(UserError, match='persistent_workers'):
        EpochSeedHook().before_train(runner)
