"""Short trainings with mmengine's loops, samplers and hooks of all kinds."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from aqd_mmdet.engine import launch
from aqd_mmdet.engine.checkpoint import read_checkpoint, state_dict_of
from aqd_mmdet.engine.integer_aware import IntegerAwareHook
from aqd_mmdet.models.integer_aware import IntegerNetwork
from aqd_mmdet.quantizers import Quantizer
from tests.trainings import config, train


def by_iterations(cfg: Config, max_iters: int, val_interval: int) -> Config:
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop',
        max_iters=max_iters,
        val_interval=val_interval,
    )
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=max_iters)
    return cfg


def hook_of(runner: Runner) -> IntegerAwareHook:
    (hook,) = (h for h in runner.hooks if isinstance(h, IntegerAwareHook))
    return hook


def is_calibrated(runner: Runner) -> bool:
    modules = runner.model.modules()
    return all(m.started for m in modules if isinstance(m, Quantizer))


SAMPLERS = {
    'infinite': dict(type='InfiniteSampler', shuffle=True),
    'infinite in order': dict(type='InfiniteSampler', shuffle=False),
    'default': dict(type='DefaultSampler', shuffle=True),
    'by class': dict(type='ClassAwareSampler'),
}


@pytest.mark.parametrize(
    'name, by_epoch',
    [
        ('infinite', False),
        pytest.param('infinite in order', False, marks=pytest.mark.slow),
        pytest.param('default', False, marks=pytest.mark.slow),
        pytest.param('by class', True, marks=pytest.mark.slow),
    ],
)
def test_loops_and_samplers(digits, tmp_path, name, by_epoch):
    cfg = config(digits, tmp_path)
    cfg.train_dataloader.sampler = SAMPLERS[name]
    if not by_epoch:
        by_iterations(cfg, 3, 3)
    runner = train(cfg)
    assert is_calibrated(runner)
    assert runner.iter == 3


@pytest.mark.slow
def test_batches_of_equal_shapes(digits, tmp_path):
    cfg = config(digits, tmp_path)
    cfg.train_dataloader.batch_sampler = dict(type='AspectRatioBatchSampler')
    assert is_calibrated(train(cfg))


@pytest.mark.slow
@pytest.mark.parametrize('by_epoch', [True, False])
def test_training_on_integers_outlasts_validations(
    digits, tmp_path, by_epoch, monkeypatch
):
    seen: list[tuple[str, bool]] = []
    for method in ('train', 'evaluate'):
        original = getattr(IntegerNetwork, method)

        def run(self, image, original=original, method=method):
            norms = [
                m for m in self.detector.modules() if hasattr(m, 'momentum')
            ]
            seen.append((method, any(m.training for m in norms)))
            return original(self, image)

        monkeypatch.setattr(IntegerNetwork, method, run)
    cfg = config(digits, tmp_path)
    cfg.default_hooks.integer_aware.from_epoch = 2
    if by_epoch:
        cfg.train_cfg.update(max_epochs=3, val_interval=1)
        cfg.train_dataloader.batch_size = 24
    else:
        by_iterations(cfg, 3, 1)
    cfg.val_dataloader.batch_size = 9
    runner = train(cfg)
    # One step in float, then validation and training take turns, the norms
    # frozen in both.
    validation = [('evaluate', False)] * 9
    step = [('train', False)]
    assert seen == [*validation, *step, *validation, *step, *validation]
    assert 'extract_feat' not in vars(runner.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    'ours, priority, buffers',
    [
        ('NORMAL', 'VERY_HIGH', False),
        ('NORMAL', 'NORMAL', True),
        ('VERY_HIGH', 'VERY_LOW', False),
    ],
)
def test_what_is_validated_is_what_is_saved(
    digits, tmp_path, ours, priority, buffers
):
    cfg = config(digits, tmp_path)
    cfg.default_hooks.integer_aware.priority = ours
    cfg.custom_hooks = [
        dict(
            type='EMAHook',
            momentum=0.5,
            update_buffers=buffers,
            priority=priority,
        )
    ]
    runner = train(cfg)
    validated = hook_of(runner)._networks[False].folded.program
    saved = MODELS.build(cfg.model).eval()
    state = state_dict_of(read_checkpoint(tmp_path / 'epoch_1.pth'))
    saved.load_state_dict(state)
    shipped = IntegerNetwork(saved).folded.program
    trained = IntegerNetwork(runner.model.eval()).folded.program
    differs = False
    for name, weights in validated.weights.items():
        assert np.array_equal(weights.codes, shipped.weights[name].codes)
        differs |= not np.array_equal(
            weights.codes, trained.weights[name].codes
        )
    assert differs, 'the average is the last step: the test shows nothing'


@pytest.mark.slow
def test_replaced_custom_hooks_do_no_harm(digits, tmp_path):
    cfg = config(digits, tmp_path)
    cfg.custom_hooks = [dict(type='NumClassCheckHook')]
    runner = train(cfg)
    assert is_calibrated(runner)
    assert False in hook_of(runner)._networks


@pytest.mark.slow
def test_replaced_default_hooks_are_added(digits, tmp_path, capfd):
    cfg = config(digits, tmp_path)
    cfg.default_hooks = dict(
        checkpoint=dict(type='CheckpointHook', interval=1)
    )
    runner = train(cfg)
    assert is_calibrated(runner)
    assert False in hook_of(runner)._networks
    log = capfd.readouterr()
    for name in ('CalibrationHook', 'IntegerAwareHook'):
        assert f'the config has no {name}' in log.out + log.err


@pytest.mark.slow
def test_a_last_batch_of_one_small_picture(digits, tmp_path):
    cfg = config(digits, tmp_path)
    # 24 pictures: a last batch of one, and one pixel on the coarsest level.
    cfg.train_dataloader.batch_size = 23
    runner = train(cfg)
    assert runner.iter == 2
    assert is_calibrated(runner)


@pytest.mark.slow
def test_a_dataset_smaller_than_a_batch(digits, tmp_path):
    cfg = config(digits, tmp_path)
    cfg.train_dataloader.batch_size = 40
    assert is_calibrated(train(cfg))


@pytest.mark.slow
def test_images_are_evaluated_by_themselves(digits, tmp_path, monkeypatch):
    """Images of several sizes find the same in any batch."""
    cfg = config(digits, tmp_path)
    train(cfg)
    found = []
    for size in (1, 4):
        cfg = config(digits, tmp_path / str(size))
        cfg.load_from = str(tmp_path / 'epoch_1.pth')
        cfg.model.test_cfg.score_thr = 0.001
        cfg.test_dataloader.batch_size = size
        # A frame that pictures of several sizes fit into in several ways.
        pipeline = cfg.test_dataloader.dataset.pipeline
        pipeline[1] = dict(type='RandomChoiceResize', scales=[(96, 64)])
        runner = launch.build_runner(cfg)
        samples = []
        monkeypatch.setattr(
            runner.test_evaluator,
            'process',
            lambda data_samples, data_batch, samples=samples: samples.extend(
                data_samples
            ),
        )
        monkeypatch.setattr(runner.test_evaluator, 'evaluate', lambda size: {})
        runner.test()
        found.append(samples)
    one, several = found
    assert len(one) == len(several) == 9
    for a, b in zip(one, several, strict=True):
        assert a.img_id == b.img_id
        assert len(a.pred_instances) > 0
        for key in ('bboxes', 'scores', 'labels'):
            assert np.array_equal(
                a.pred_instances[key].numpy(), b.pred_instances[key].numpy()
            )
