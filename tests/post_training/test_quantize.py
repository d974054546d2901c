from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.models.quantized_detector import (
    quantize_detector,
    quantized_layers,
)
from aqd_mmdet.post_training.quantize import EFFORTS, quantize
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.stems import find_stems
from tests.post_training.small import SmallDetector, pictures, small


def quantised(weight_bits: int = 8) -> Any:
    """A small detector with quantisers that are not started."""
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), weight_bits, 8)
    quantize_detector(detector, recipe, 8)
    return detector.eval()


@pytest.mark.parametrize('effort', EFFORTS)
def test_the_float_detector_stays_as_it_is(effort):
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 4, 8)
    state = deepcopy(detector.state_dict())
    result = quantize(detector, recipe, pictures(2), effort, lambda text: None)
    assert list(quantized_layers(result.detector)) == [
        'stem',
        'depthwise',
        'bbox_head.output',
    ]
    assert not quantized_layers(detector)
    for name, value in detector.state_dict().items():
        assert torch.equal(value, state[name])
    exact = detector(pictures(3)[2])[0]
    rounded = result.detector(pictures(3)[2])[0]
    assert (rounded - exact).var() < 0.1 * exact.var()


def test_more_effort_is_nearer():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 3, 8)
    exact = detector(pictures(5)[4])[0]
    errors = [
        (
            quantize(
                detector, recipe, pictures(4), effort, lambda text: None
            ).detector(pictures(5)[4])[0]
            - exact
        )
        .square()
        .mean()
        .item()
        for effort in ('calibrate', 'correct')
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    'name, options',
    [('stem', dict(act_grid='image')), ('depthwise', dict(normalize=True))],
)
def test_weights_that_would_be_normalised_are_refused(name, options):
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    edited = dict(modules=name, conv=dict(weight_bits=4, **options))
    with pytest.raises(UserError, match=f'^{name}: .* normalize=False'):
        quantize(detector, [*recipe, edited], pictures(1))


def test_layers_with_a_bias_need_not_say_that_they_are_not_normalised():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    edited = dict(modules='depthwise', conv=dict(weight_bits=4))
    result = quantize(detector, [*recipe, edited], pictures(1), 'calibrate')
    layer = quantized_layers(result.detector)['depthwise']
    assert layer.weight_quantizer.grid.bits == 4 and not layer.normalize


@pytest.mark.parametrize('kind', [nn.SiLU, nn.Conv2d])
def test_a_forward_that_asks_for_types_of_layers_is_refused(kind):
    class Asks(SmallDetector):
        def extract_feat(self, x):
            (x,) = super().extract_feat(x)
            asked = any(type(layer) is kind for layer in self.children())
            return (x * 2.0 if asked else x,)

    detector = Asks().eval()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    with pytest.raises(UserError, match='^Asks: expected the same maps'):
        quantize(detector, recipe, pictures(1), 'calibrate')


def test_mistakes_are_told():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    with pytest.raises(UserError, match="effort='much'"):
        quantize(detector, recipe, pictures(1), 'much')
    with pytest.raises(UserError, match='no pictures'):
        quantize(detector, recipe, [])
