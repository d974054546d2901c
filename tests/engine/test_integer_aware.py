"""When the hook of integer-aware training is active."""

from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from aqd_mmdet.engine import integer_aware
from aqd_mmdet.engine.integer_aware import IntegerAwareHook
from aqd_mmdet.errors import UserError


@pytest.mark.parametrize('start', [0, -1, 1.0, True, '2'])
def test_impossible_starts(start):
    with pytest.raises(UserError, match='from_epoch=.*expected an epoch'):
        IntegerAwareHook(start)


class Entered:
    """Stands for the network, and counts what is done with it."""

    def __init__(self, detector: nn.Module, training: bool) -> None:
        self.training = training
        self.folds = 0

    def fold(self) -> None:
        self.folds += 1


@pytest.fixture
def runner(monkeypatch):
    """A runner in its third epoch, of a detector with one norm."""
    active = []

    class Context:
        def __init__(self, network: Entered) -> None:
            self.network = network

        def __enter__(self) -> None:
            active.append(self.network.training)

        def __exit__(self, *error: object) -> None:
            active.remove(self.network.training)

    monkeypatch.setattr(integer_aware, 'IntegerNetwork', Entered)
    monkeypatch.setattr(integer_aware, 'integer_aware', Context)
    monkeypatch.setattr(
        integer_aware, 'quantized_layers', lambda detector: {'layer': 1}
    )
    monkeypatch.setattr(integer_aware, 'detector_of', lambda model: model)
    lines = []
    return SimpleNamespace(
        model=nn.Sequential(nn.BatchNorm2d(1)),
        train_loop=None,
        epoch=2,
        iter=40,
        logger=SimpleNamespace(info=lines.append, warning=lines.append),
        lines=lines,
        active=active,
    )


def test_training_is_entered_from_its_epoch_on(runner):
    hook = IntegerAwareHook(4)
    hook.before_train_iter(runner, 0)
    assert (runner.active, runner.model[0].training) == ([], True)
    runner.epoch = 3
    hook.before_train_iter(runner, 0)
    assert (runner.active, runner.model[0].training) == ([True], False)
    # Loops set the whole model to training as they please.
    runner.model.train()
    hook.before_train_iter(runner, 1)
    assert (runner.active, runner.model[0].training) == ([True], False)
    hook.after_train_epoch(runner)
    assert runner.active == []
    assert runner.lines == [
        'trained on integers, as the program computes them'
    ]


def test_loops_without_epochs_count_iterations(runner):
    runner.train_loop = object.__new__(IterBasedTrainLoop)
    hook = IntegerAwareHook(42)
    hook.before_train_iter(runner, 0)
    assert runner.active == []
    runner.iter = 41
    hook.before_train_iter(runner, 0)
    assert runner.active == [True]


def test_validation_leaves_training_and_folds_anew(runner):
    hook = IntegerAwareHook(1)
    hook.before_train_iter(runner, 0)
    for count in range(3):
        hook.before_val_epoch(runner)
        assert runner.active == [False]
        assert hook._networks[False].folds == count
        hook.after_val_epoch(runner)
        assert runner.active == []


def test_what_has_no_program_is_evaluated_in_float(runner, monkeypatch):
    def refuse(detector: nn.Module, training: bool) -> None:
        raise UserError('neck: stays float')

    monkeypatch.setattr(integer_aware, 'IntegerNetwork', refuse)
    hook = IntegerAwareHook(1)
    for _ in range(2):
        hook.before_val_epoch(runner)
    assert runner.active == []
    assert runner.lines == ['evaluated in float: neck: stays float']
    # Training on integers is not left out without a word.
    for own in (hook, IntegerAwareHook(1)):
        with pytest.raises(UserError, match='neck: stays float'):
            own.before_train_iter(runner, 0)
    # Nor refused when its time comes, but in the first step.
    with pytest.raises(UserError, match='neck: stays float'):
        IntegerAwareHook(11).before_train_iter(runner, 0)
    IntegerAwareHook().before_train_iter(runner, 0)


def _validate(rank: int, store: str, found: Any) -> None:
    """Be a process whose norm has statistics of its own."""
    torch.distributed.init_process_group(
        'gloo', f'file://{store}', rank=rank, world_size=2
    )
    norm = nn.BatchNorm2d(1)
    nn.init.constant_(norm.running_mean, rank + 3)
    nn.init.constant_(norm.running_var, rank + 5)
    model = nn.Sequential(norm)
    IntegerAwareHook().before_val_epoch(SimpleNamespace(model=model))
    found.put([norm.running_mean.item(), norm.running_var.item()])
    # A process that ends beside gloo's threads may abort.
    torch.distributed.destroy_process_group()


def test_all_processes_validate_what_the_first_one_saves(tmp_path):
    context = get_context('spawn')
    found = context.SimpleQueue()
    processes = [
        context.Process(target=_validate, args=(r, tmp_path / 'store', found))
        for r in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    assert [found.get(), found.get()] == [[3, 5], [3, 5]]
