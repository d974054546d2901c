"""Noise of layers, against what they really do to the outputs."""

from typing import Any

import pytest
import torch
from torch import nn

from aqd_mmdet.models.quantized_detector import (
    quantize_detector,
    quantized_layers,
)
from aqd_mmdet.post_training.calibration import (
    calibrate,
    every_rounding,
    unchanged,
)
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.sensitivity import output_noise, real_maps
from aqd_mmdet.post_training.stems import find_stems
from aqd_mmdet.quantizers.quantizer import RoundingModule
from tests.post_training.small import pictures, small


def quantised(bits: int, detector: Any = None) -> Any:
    detector = detector or small()
    recipe = find_recipe(detector, find_stems(detector), bits, 8)
    for rule in recipe:
        if 'conv' in rule:
            rule['conv']['weight_bits'] = bits
    quantize_detector(detector, recipe, 8)
    calibrate(detector, pictures(20), 20)
    return detector.eval()


@torch.no_grad()
def measured(student: Any, teacher: Any, layer: nn.Module, picture: Any):
    """The noise of the outputs where one layer alone rounds."""
    with every_rounding(student, unchanged):
        for module in layer.modules():
            if isinstance(module, RoundingModule):
                module.hook = None
        rounded = student(picture)[0]
    exact = teacher(picture)[0]
    return float((rounded - exact).square().mean() / exact.var())


@pytest.mark.parametrize('name', ['stem', 'depthwise', 'bbox_head.output'])
def test_noise_is_what_a_layer_makes(name):
    student, teacher = quantised(6), small()
    picture = pictures(1)[0]
    # Each pass has signs of its own: their mean is within a tenth.
    noise = output_noise(student, teacher, [picture] * 300)
    expected = measured(
        student, teacher, quantized_layers(student)[name], picture
    )
    assert noise[name] == pytest.approx(expected, rel=0.4)


def test_fewer_bits_are_noisier():
    noises = [
        output_noise(quantised(bits), small(), pictures(20))
        for bits in (8, 6, 4, 2)
    ]
    for name in noises[0]:
        values = [noise[name] for noise in noises]
        assert values == sorted(values)
        assert values[0] > 0


def test_the_detectors_stay_as_they_are():
    student, teacher = quantised(4), small()
    states = [
        {n: x.clone() for n, x in each.state_dict().items()}
        for each in (student, teacher)
    ]
    output_noise(student, teacher, pictures(2))
    for each, state in zip((student, teacher), states, strict=True):
        assert all(
            torch.equal(x, state[n]) for n, x in each.state_dict().items()
        )
    assert all(x.grad is None for x in teacher.parameters())
    assert all(x.requires_grad for x in teacher.parameters())


def test_frozen_layers_have_noise():
    teacher = small()
    teacher.requires_grad_(False)
    assert output_noise(quantised(4), teacher, pictures(2))['stem'] > 0


def test_what_no_output_depends_on_is_left_out():
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

    def detector() -> Any:
        result = small()
        result.neck = Unused()
        forward = result.extract_feat

        def extract(x):
            (x,) = forward(x)
            result.neck.conv(x)
            return (x,)

        result.extract_feat = extract
        return result

    student = quantised(4, detector())
    noise = output_noise(student, detector(), pictures(2))
    assert 'neck.conv' in quantized_layers(student)
    assert 'neck.conv' not in noise


def test_maps_of_a_first_stage_are_there():
    detector = small()
    detector.rpn_head = nn.Conv2d(8, 2, 1)
    forward = detector.extract_feat

    def extract(x):
        (x,) = forward(x)
        detector.rpn_head(x)
        return (x,)

    detector.extract_feat = extract
    maps = real_maps(detector, pictures(1)[0])
    assert [x.shape[1] for x in maps] == [2, 4]
