"""The float detector's maps among the losses."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from aqd_mmdet.compiler.trace import dense_head
from aqd_mmdet.engine import TeacherHook
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.errors import UserError
from aqd_mmdet.quantizers.start import mse_clip
from tests.factories import digits_config, normalised, pixels


@pytest.fixture(params=['retinanet', 'fcos'])
def runner(request, build, tmp_path):
    """A runner whose detector starts from a float one's checkpoint."""
    teacher = build('float', request.param)
    path = tmp_path / 'float.pth'
    torch.save(dict(state_dict=teacher.state_dict()), path)
    student = build(2, request.param)
    student.load_state_dict(teacher.state_dict(), strict=False)
    image = normalised(pixels(2, 3, 96, 96))
    calibrate(student, [dict(inputs=image)], mse_clip)
    student.train()
    # Losses of boxes need samples; here there are none.
    student.loss = lambda inputs, samples: dict(
        loss_own=student.bbox_head(student.extract_feat(inputs))[0][0].sum()
    )
    cfg = digits_config('2bit', request.param)
    return SimpleNamespace(
        model=student,
        cfg=Config(dict(model=cfg.model, load_from=str(path))),
        image=image,
        teacher=teacher,
    )


def test_the_difference_of_maps_is_a_loss(runner):
    hook = TeacherHook(weight=0.5)
    own = runner.model.loss
    hook.before_train(runner)
    losses = runner.model.loss(runner.image, None)
    assert set(losses) == {'loss_own', 'loss_teacher'}
    far = losses['loss_teacher']
    # Twenty random layers of 2 bits are far from those in float.
    assert far.item() > 0.01
    far.backward()
    for name, parameter in runner.model.named_parameters():
        if 'weight' in name and 'conv' in name:
            assert parameter.grad is not None, name
    hook.after_train(runner)
    assert runner.model.loss is own
    assert set(runner.model.loss(runner.image, None)) == {'loss_own'}


def test_the_teachers_own_maps_cost_nothing(runner):
    hook = TeacherHook()
    hook.before_train(runner)
    student = runner.model
    teacher = runner.teacher.eval()
    dense_head(teacher).training = True
    with torch.no_grad():
        features = teacher.extract_feat(runner.image)
        maps = dense_head(teacher)(features)
    student.extract_feat = lambda inputs: features
    head = student.bbox_head
    head.forward = lambda given: maps
    # An integer-aware training has replaced what makes features.
    assert student.loss(runner.image, None)['loss_teacher'] == 0
    hook.after_train(runner)


def test_a_float_detector_has_no_teacher(runner, build):
    runner.model = build('float')
    own = runner.model.loss
    TeacherHook().before_train(runner)
    assert runner.model.loss == own


def test_a_validation_on_a_gpu_can_copy_the_detector(runner):
    hook = TeacherHook()
    hook.before_train(runner)
    runner.model.loss(runner.image, None)
    deepcopy(runner.model)
    hook.after_train(runner)


def test_without_a_checkpoint(runner):
    runner.cfg.load_from = None
    with pytest.raises(UserError, match='give `checkpoint` to the hook'):
        TeacherHook().before_train(runner)


def test_a_resumed_run_has_the_teacher_that_it_started_from(runner, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=runner.model.state_dict()), path)
    runner.cfg.resume = True
    runner.cfg.started_from = runner.cfg.load_from
    runner.cfg.load_from = str(path)
    TeacherHook().before_train(runner)
    runner.cfg.started_from = None
    with pytest.raises(UserError, match='give another `checkpoint` to the'):
        TeacherHook().before_train(runner)


def test_a_checkpoint_of_another_detector(runner, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(1))), path)
    with pytest.raises(UserError, match='other.pth'):
        TeacherHook(str(path)).before_train(runner)


@pytest.mark.parametrize('weight', [0, -1.0, float('nan')])
def test_impossible_weights(weight):
    with pytest.raises(UserError, match='TeacherHook: give a positive'):
        TeacherHook(weight=weight)
