"""The line of the log on how the quantisers are doing."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import IterBasedTrainLoop

from aqd_mmdet.engine import quantizer_log
from aqd_mmdet.engine.quantizer_log import QuantizerLogHook
from aqd_mmdet.layers import QuantLinear


@pytest.fixture
def runner(monkeypatch):
    """A runner of two batches an epoch, of two layers."""
    layers = {}
    for name, clip in (('a', 2.0), ('b', 4.0)):
        layers[name] = QuantLinear(1, 1, weight_bits=8, act_bits=8)
        layers[name].input_quantizer.start(torch.tensor(clip))
        layers[name].weight_quantizer.start(torch.tensor(clip / 4))
    monkeypatch.setattr(
        quantizer_log, 'quantized_layers', lambda detector: layers
    )
    monkeypatch.setattr(quantizer_log, 'detector_of', lambda model: model)
    lines = []
    return SimpleNamespace(
        model=None,
        layers=layers,
        train_loop=None,
        train_dataloader=[0, 1],
        iter=0,
        logger=SimpleNamespace(info=lines.append),
        lines=lines,
    )


def step(hook: QuantizerLogHook, runner, number: int) -> None:
    hook.before_train_iter(runner, number)
    for layer in runner.layers.values():
        layer(torch.tensor([[1.0], [3.0], [-3.0], [9.0]]))
    hook.after_train_iter(runner, number)


def test_one_line_after_the_last_batch(runner):
    hook = QuantizerLogHook()
    step(hook, runner, 0)
    assert runner.lines == []
    step(hook, runner, 1)
    assert runner.lines == [
        'quantisers: input clip 2 to 4, median 3; weight clip 0.5 to 1, '
        'median 0.75; inputs clipped: median 37.50%, most 50.00% in a'
    ]
    # Nothing is watched in between.
    for layer in runner.layers.values():
        assert not layer.input_quantizer._forward_pre_hooks


def test_loops_without_epochs_write_before_each_validation(runner):
    runner.train_loop = object.__new__(IterBasedTrainLoop)
    runner.train_loop._val_interval = runner.train_loop.val_interval = 3
    hook = QuantizerLogHook()
    for runner.iter in range(7):
        step(hook, runner, runner.iter)
    assert len(runner.lines) == 2


def test_a_float_detector_has_no_line(runner):
    runner.layers.clear()
    step(QuantizerLogHook(), runner, 1)
    assert runner.lines == []
