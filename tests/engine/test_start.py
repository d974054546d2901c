import os

import pytest
import torch

from aqd_mmdet.engine import launch, start
from aqd_mmdet.errors import UserError
from tests.trainings import config


@pytest.fixture
def told(monkeypatch):
    """What is said."""
    found: list[str] = []
    monkeypatch.setattr(
        start, 'print_log', lambda text, **options: found.append(text)
    )
    return found


ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=3)


def build(digits, tmp_path, **changes):
    return launch.build_runner(config(digits, tmp_path, **changes))


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'train_cfg.max_epochs': 0}, r'train_cfg\.max_epochs=0: .*nothing'),
        (
            {'train_cfg': dict(ITERATIONS, _delete_=True, max_iters=0)},
            r'train_cfg\.max_iters=0: .*nothing',
        ),
        (
            {
                'train_dataloader.batch_size': 1000,
                'train_dataloader.drop_last': True,
            },
            'images fill no batch of 1000, and drop_last=True',
        ),
    ],
)
def test_a_training_takes_a_step(digits, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        start.check_steps(build(digits, tmp_path, **changes))


def test_a_sampler_without_an_end_fills_its_batches(digits, tmp_path):
    cfg = config(
        digits,
        tmp_path,
        **{
            'train_dataloader.batch_size': 1000,
            'train_dataloader.drop_last': True,
        },
    )
    cfg.train_cfg = ITERATIONS
    cfg.param_scheduler = []
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    start.check_steps(launch.build_runner(cfg))
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    cfg.experiment_name += '_default'
    with pytest.raises(UserError, match='images fill no batch of 1000'):
        start.check_steps(launch.build_runner(cfg))


def test_a_finished_run_is_told(digits, tmp_path, told):
    runner = build(digits, tmp_path, **{'train_cfg.max_epochs': 2})
    path = tmp_path / 'epoch.pth'
    for epoch in (1, 2):
        torch.save(dict(state_dict={}, meta=dict(epoch=epoch)), path)
        start.tell_of_the_end(runner, str(path))
        assert len(told) == epoch - 1
    assert 'is of epoch 2, and train_cfg.max_epochs is 2: nothing' in told[0]
    torch.save(dict(state_dict={}), path)
    start.tell_of_the_end(runner, str(path))
    assert len(told) == 1


def test_a_run_that_cannot_be_resumed_exactly_is_told(digits, tmp_path, told):
    start.tell_of_the_seed(build(digits, tmp_path / 'a'))
    assert told == []
    cfg = config(digits, tmp_path / 'b')
    cfg.default_hooks = None
    start.tell_of_the_seed(launch.build_runner(cfg))
    (line,) = told
    assert line.startswith('the config has no EpochSeedHook: ')


def test_checkpoints_of_an_earlier_run_are_told(tmp_path, told):
    start.tell_of_checkpoints(tmp_path)
    assert told == []
    for age, name in enumerate(('epoch_10.pth', 'epoch_9.pth')):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, 1000 - age))
    start.tell_of_checkpoints(tmp_path)
    (line,) = told
    assert line.startswith(f'work_dir {tmp_path}: it has checkpoints of an')
    assert 'the newest epoch_10.pth' in line


def follow(digits, tmp_path, key, **changes):
    cfg = config(
        digits, tmp_path, **{'default_hooks.checkpoint.save_best': key}
    )
    cfg.val_evaluator.update(changes)
    return launch.build_runner(cfg)


def test_a_validation_has_the_metric_that_is_followed(digits, tmp_path):
    for number, key in enumerate(['coco/bbox_mAP', 'auto', None]):
        start.check_followed(follow(digits, tmp_path / str(number), key))
    with pytest.raises(
        UserError,
        match=r"^CheckpointHook\.save_best='coco/bbox_map': .*nearest: "
        r'coco/bbox_mAP',
    ):
        start.check_followed(follow(digits, tmp_path / 'a', 'coco/bbox_map'))
    # Others give metrics of other names.
    start.check_followed(
        follow(digits, tmp_path / 'b', 'coco/0_precision', classwise=True)
    )


def test_an_early_stop_is_of_a_metric(digits, tmp_path):
    cfg = config(digits, tmp_path)
    cfg.custom_hooks = [dict(type='EarlyStoppingHook', monitor='coco/mAP')]
    with pytest.raises(UserError, match=r"StoppingHook\.monitor='coco/mAP'"):
        start.check_followed(launch.build_runner(cfg))
