import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import CosineAnnealingLR, MultiStepLR
from mmengine.runner import IterBasedTrainLoop
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


def resume(
    kept: dict,
    now: dict,
    done: int = 8,
    counts: int = 1,
    loop: object = None,
    length: int = 4,
) -> list[str]:
    """Resume a run of epochs of 4 steps; return what is told."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedules = [
        [CosineAnnealingLR(optimizer, **options), MultiStepLR(optimizer, [3])]
        for options in (kept, now)
    ]
    warnings: list[str] = []
    runner = SimpleNamespace(
        _resume=True,
        param_schedulers=schedules[1],
        train_loop=loop,
        train_dataloader=range(length),
        optim_wrapper=OptimWrapper(optimizer, accumulative_counts=counts),
        logger=SimpleNamespace(warning=warnings.append),
    )
    for schedule in schedules[0]:
        optimizer.step()
        schedule.step()
    checkpoint = dict(
        param_schedulers=[s.state_dict() for s in schedules[0]],
        meta=dict(epoch=2, iter=done),
    )
    EpochSeedHook().after_load_checkpoint(runner, checkpoint)
    return warnings


def test_a_schedule_goes_on_as_it_was_begun():
    assert resume(dict(T_max=10), dict(T_max=10)) == []
    with pytest.raises(UserError, match='T_max is 10 in the .* and 18 by'):
        resume(dict(T_max=10), dict(T_max=18))
    with pytest.raises(UserError, match='eta_min'):
        resume(dict(T_max=10), dict(T_max=10, eta_min=0.1))


def test_a_part_of_an_epoch_is_told():
    (warning,) = resume(dict(T_max=10), dict(T_max=10), done=9)
    assert 'epoch 3 begins anew' in warning


SAME = dict(T_max=10), dict(T_max=10)


def test_gradients_that_were_gathered_in_part_are_told():
    assert resume(*SAME, done=8, counts=4) == []
    (warning,) = resume(*SAME, done=8, counts=3)
    assert 'accumulative_counts=3 does not divide 8 iterations' in warning
    assert 'gradients of the last 2 are in no checkpoint' in warning


def test_other_augmentations_of_a_training_by_iterations_are_told():
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    (warning,) = resume(*SAME, done=9, loop=loop)
    assert 'training by iterations' in warning
    assert 'augmentations draw other numbers' in warning


def test_a_loader_without_batches_is_no_part_of_an_epoch():
    assert resume(*SAME, length=0) == []


def test_a_first_start_compares_nothing():
    runner = SimpleNamespace(_resume=False)
    EpochSeedHook().after_load_checkpoint(runner, {})
