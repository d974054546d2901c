"""Integer-aware mode is the program, in evaluation and in training."""

import numpy as np
import pytest
import torch
from torch import nn

from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.errors import UserError
from aqd_mmdet.models import integer_aware as module
from aqd_mmdet.models.integer_aware import IntegerNetwork, integer_aware
from aqd_mmdet.models.quantized_detector import read_integer
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import reference
from tests.factories import normalised, pixels


@pytest.fixture
def model(build) -> nn.Module:
    model = build(2).eval()
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    return model


@pytest.mark.parametrize('kind', [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_integers(model, kind):
    image = normalised(pixels(1, 3, 64, 64))
    network = IntegerNetwork(model)
    expected = network.evaluate(image)
    with torch.autocast('cpu', kind):
        found = network.evaluate(image)
    for maps, others in zip(found, expected, strict=True):
        for a, b in zip(maps, others, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(model, value):
    conv = model.neck.fpn_convs[0].conv
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = value
    with pytest.raises(UserError, match='fpn_convs.0.conv.*not finite'):
        IntegerNetwork(model)


def test_the_program_is_made_of_the_weights_at_the_first_image(model):
    image = normalised(pixels(1, 3, 64, 64))
    network = IntegerNetwork(model)
    first = network.evaluate(image)[0][0]
    with integer_aware(network), torch.no_grad():
        model.bbox_head.retina_cls.bias += 1
        found = model(image, mode='tensor')[0][0]
        model.bbox_head.retina_cls.bias -= 1
        again = model(image, mode='tensor')[0][0]
    assert torch.allclose(found, first + 1, atol=1e-4)
    assert torch.equal(again, found)


def test_the_detector_is_itself_again_afterwards(model):
    image = normalised(pixels(1, 3, 64, 64))
    before = model(image, mode='tensor')[0][0]
    with integer_aware(IntegerNetwork(model)):
        pass
    assert torch.equal(model(image, mode='tensor')[0][0], before)
    assert 'extract_feat' not in vars(model)
    assert 'forward' not in vars(model.bbox_head)


def test_training_sees_the_programs_codes_and_has_gradients(model):
    image = normalised(pixels(2, 3, 64, 96))
    with integer_aware(IntegerNetwork(model)), torch.no_grad():
        expected = model(image, mode='tensor')
    with integer_aware(IntegerNetwork(model, training=True)):
        found = model(image, mode='tensor')
    for maps, others in zip(found, expected, strict=True):
        for a, b in zip(maps, others, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)
    loss = sum(m.square().mean() for maps in found for m in maps)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.slow
def test_fcos_is_trained_on_maps_without_strides(build):
    model = build(2, 'fcos').eval()
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    image = normalised(pixels(1, 3, 64, 64))
    with integer_aware(IntegerNetwork(model)), torch.no_grad():
        boxes = model(image, mode='tensor')[1]
    network = IntegerNetwork(model, training=True)
    with integer_aware(network):
        for_losses = model(image, mode='tensor')[1]
    unit = network.folded.program.outputs[1].scale
    for a, b, stride in zip(boxes, for_losses, (8, 16, 32, 64), strict=True):
        # Rounded to units before strides and behind them.
        assert torch.allclose(a, b * stride, rtol=1e-6, atol=unit * stride)


@pytest.mark.slow
def test_boxes_that_are_exponentials(build):
    model = build(2, 'fcos').eval()
    model.bbox_head.norm_on_bbox = False
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    pixel = pixels(1, 3, 64, 64)
    image = normalised(pixel)
    network = IntegerNetwork(model)
    program = network.folded.program
    codes = reference.run(program, pixel.numpy())
    with integer_aware(network), torch.no_grad():
        boxes = model(image, mode='tensor')[1]
    output = program.outputs[1]
    for name, values in zip(output.tensors, boxes, strict=True):
        exponents = torch.from_numpy(codes[name]).double() * output.scale
        assert torch.equal(values, exponents.exp().float())
    # Losses are given the same.
    with integer_aware(IntegerNetwork(model, training=True)):
        for_losses = model(image, mode='tensor')[1]
    for a, b in zip(boxes, for_losses, strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
    sum(x.square().mean() for x in for_losses).backward()
    gradient = model.bbox_head.conv_reg.weight.grad
    assert gradient.abs().sum() > 0


def test_a_step_changes_the_program(model):
    network = IntegerNetwork(model, training=True)
    image = normalised(pixels(1, 3, 64, 64))
    first = network.train(image)[0][0].detach()
    with torch.no_grad():
        model.bbox_head.retina_cls.bias += 1
    second = network.train(image)[0][0].detach()
    assert torch.allclose(second, first + 1, atol=1e-4)


@pytest.mark.parametrize(
    'integer, message',
    [
        (
            dict(type='FixedPoint'),
            "model.integer.type='FixedPoint': .* no such",
        ),
        ([16], r'model.integer=\[16\]: expected a dict'),
        (dict(multiplier_bit=16), 'nearest: multiplier_bits'),
        (dict(width=16), 'model.integer.width=16: .* no such option'),
        (dict(multiplier_bits=99), 'multiplier_bits=99'),
        (dict(aware_from=2), 'aware_from'),
    ],
)
def test_impossible_integer_sides(integer, message):
    with pytest.raises(UserError, match=message):
        read_integer(integer)


def test_the_config_reaches_the_compiler(build):
    model = build(2, integer=dict(multiplier_bits=12))
    assert model.fixed_point.multiplier_bits == 12
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    program = IntegerNetwork(model).folded.program
    largest = max(
        int(np.abs(op.multipliers.m).max())
        for op in program.ops
        if hasattr(op, 'multipliers')
    )
    assert 2**11 <= largest < 2**12


@pytest.mark.slow
@pytest.mark.parametrize('training', [False, True])
def test_a_copy_on_the_cpu_is_what_is_folded(model, monkeypatch, training):
    image = normalised(pixels(1, 3, 64, 64))
    plain = IntegerNetwork(model, training)
    monkeypatch.setattr(module, '_is_on_cpu', lambda detector: False)
    copied = IntegerNetwork(model, training)
    assert copied.shipped is not model
    with torch.no_grad():
        model.neck.fpn_convs[0].conv.weight.mul_(1.5).add_(0.01)
        model.bbox_head.retina_cls.bias += 1
    results = []
    for network in (plain, copied):
        network.fold()
        run = network.train if training else network.evaluate
        maps = [x for level in run(image) for x in level]
        results.append(maps)
        if training:
            model.zero_grad()
            sum(x.square().sum() for x in maps).backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            results[-1] = [*maps, *grads]
    assert len(results[0]) == len(results[1])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
