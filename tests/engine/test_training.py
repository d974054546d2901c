"""What a quantised detector's training needs, whatever a config says."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import Runner
from torch import nn

from aqd_mmdet.engine import launch
from aqd_mmdet.engine.training import take_shapes
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import FixedPointActivation
from tests.trainings import config

BACKBONE = 'backbone.layer1.0.conv1.input_quantizer.clip'
NECK = 'neck.fpn_convs.0.conv.input_quantizer.clip'


def runner_of(digits, tmp_path, **wrapper: Any) -> Runner:
    cfg = config(digits, tmp_path)
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01),
        **wrapper,
    )
    return launch.build_runner(cfg)


def groups_of(runner: Runner) -> dict[str, tuple[float, float]]:
    """Rate and decay of each parameter."""
    built = runner.build_optim_wrapper(runner.optim_wrapper)
    names = {id(p): name for name, p in runner.model.named_parameters()}
    return {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in built.optimizer.param_groups
        for parameter in group['params']
    }


@pytest.mark.parametrize(
    'keys, backbone, neck',
    [
        (None, (0.1, 0), (0.1, 0)),
        ({'.clip': dict(decay_mult=0.5)}, (0.1, 0.005), (0.1, 0.005)),
        # Longer and shorter than `.clip`: mmengine follows the longest alone.
        ({'backbone': dict(lr_mult=0.5)}, (0.05, 0), (0.1, 0)),
        (
            {'neck': dict(lr_mult=0.5), '.clip': dict(decay_mult=0)},
            (0.1, 0),
            (0.05, 0),
        ),
        (
            {'backbone': dict(lr_mult=0.5, decay_mult=3)},
            (0.05, 0),
            (0.1, 0),
        ),
    ],
)
def test_clip_values_do_not_decay(digits, tmp_path, keys, backbone, neck):
    paramwise = None if keys is None else dict(custom_keys=keys)
    runner = runner_of(digits, tmp_path, paramwise_cfg=paramwise)
    groups = groups_of(runner)
    assert groups[BACKBONE] == backbone
    assert groups[NECK] == neck
    assert groups['backbone.layer1.0.conv1.weight'][1] > 0
    # What is written to the work_dir is the user's.
    assert runner.cfg.optim_wrapper.get('paramwise_cfg') == paramwise


def test_optimisers_without_a_decay_or_a_rate(digits, tmp_path):
    cfg = config(digits, tmp_path)
    cfg.optim_wrapper = dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)
    )
    groups = groups_of(launch.build_runner(cfg))
    assert groups[BACKBONE] == (0.1, 0)
    # PyTorch's own.
    assert groups['backbone.layer1.0.conv1.weight'] == (0.1, 0.01)
    cfg.experiment_name += '_2'
    cfg.optim_wrapper.optimizer = dict(type='AdamW')
    with pytest.raises(UserError, match='has no lr'):
        launch.build_runner(cfg)


@pytest.mark.parametrize('bits', ['float', 2])
@pytest.mark.parametrize(
    ('optimizer', 'paramwise', 'line'),
    [
        ({}, dict(custom_keys={'.clip': dict(decay_mult=0)}), "'.clip'"),
        ({}, dict(norm_decay_mult=0), 'norm_decay_mult'),
        (dict(weight_decay=None), dict(bias_decay_mult=0), 'bias_decay_mult'),
        ({}, dict(custom_keys={'.clip': 0}), 'expected a dict such as'),
        ({}, dict(custom_keys=['.clip']), 'expected a dict such as'),
    ],
)
def test_a_decay_that_is_multiplied_has_to_be_there(
    digits, tmp_path, bits, optimizer, paramwise, line
):
    cfg = config(digits, tmp_path)
    cfg.model.bits = bits
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='Adam', lr=0.1, **optimizer),
        paramwise_cfg=paramwise,
    )
    with pytest.raises(UserError, match=line):
        launch.build_runner(cfg)


def test_another_constructor_is_left_alone_and_named(digits, tmp_path, capfd):
    runner = runner_of(
        digits,
        tmp_path,
        constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(num_layers=6, decay_rate=0.7),
    )
    assert runner.optim_wrapper == runner.cfg.optim_wrapper
    assert 'says how clip values are trained' in capfd.readouterr().out


@pytest.mark.parametrize('buffers', [False, True])
def test_averages_have_the_shapes_of_a_checkpoint(tmp_path, buffers):
    def activation() -> nn.Module:
        return nn.ModuleDict(dict(act=FixedPointActivation(nn.SiLU())))

    source, model = activation(), activation()
    source['act'].start(torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1))
    path = tmp_path / 'c.pth'
    torch.save(dict(state_dict=source.state_dict()), path)
    take_shapes(SimpleNamespace(model=model), str(path))
    # As EMAHook does: a copy of the model, before the checkpoint is loaded.
    average = ExponentialMovingAverage(
        model, momentum=0.5, update_buffers=buffers
    )
    for target in (model, average.module):
        target.load_state_dict(source.state_dict())
    for _ in range(2):
        average.update_parameters(model)
    clip = average.module['act'].clip
    assert torch.equal(clip, source['act'].clip)
