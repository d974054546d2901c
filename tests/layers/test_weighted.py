from copy import deepcopy

import pytest
import torch
from mmcv.cnn import build_conv_layer
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantConv2d, QuantLinear
from tests.factories import started


def test_by_name_as_conv_cfg():
    layer = build_conv_layer(
        dict(type='aqd_mmdet.QuantConv2d', weight_bits=2, act_bits=3), 4, 6, 3
    )
    assert isinstance(layer, QuantConv2d)
    assert layer.weight_quantizer.grid.bits == 2
    assert layer.input_quantizer.grid.bits == 3


@pytest.mark.parametrize('bits', [2, 3, 4, 8])
def test_output_is_that_of_the_codes(bits):
    layer = QuantConv2d(4, 6, 3, bias=False, weight_bits=bits, act_bits=bits)
    layer.weight_quantizer.start(torch.tensor(1.5))
    layer.input_quantizer.start(torch.tensor(1.2))
    x = torch.randn(2, 4, 8, 8)
    integers = nn.functional.conv2d(
        layer.input_quantizer.codes(x).double(), layer.weight_codes().double()
    )
    scale = layer.input_quantizer.step * layer.weight_quantizer.step
    torch.testing.assert_close(
        layer(x).double(), integers * scale.double(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('bits, count', [(2, 4), (3, 8), (4, 16)])
def test_weight_codes_use_the_whole_grid(bits, count):
    layer = QuantConv2d(16, 32, 3, bias=False, weight_bits=bits)
    assert started(layer).weight_codes().unique().numel() == count


def test_normalised_by_default_without_bias_only():
    with_bias = QuantConv2d(4, 6, 3)
    without = QuantConv2d(4, 6, 3, bias=False)
    assert torch.equal(with_bias.normalized_weight(), with_bias.weight)
    w = without.normalized_weight()
    assert w.mean().abs() < 1e-6
    assert abs(w.std(unbiased=False) - 1) < 1e-5


def test_no_gradient_through_the_statistics():
    layer = QuantConv2d(4, 6, 3, bias=False)
    std = layer.weight.detach().std(unbiased=False)
    layer.normalized_weight()[0, 0, 0, 0].backward()
    expected = torch.zeros_like(layer.weight)
    expected[0, 0, 0, 0] = 1 / std
    torch.testing.assert_close(layer.weight.grad, expected)


def test_equal_weights_are_finite():
    layer = QuantConv2d(4, 6, 3, bias=False)
    nn.init.constant_(layer.weight, 0.3)
    assert torch.isfinite(started(layer)(torch.rand(1, 4, 5, 5))).all()


def test_per_channel_clip():
    layer = started(QuantConv2d(4, 6, 3, per_channel=True))
    assert layer.weight_quantizer.clip.shape == (6, 1, 1, 1)
    assert layer(torch.rand(1, 4, 5, 5)).shape == (1, 6, 3, 3)


def test_takes_over_parameters_and_names():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    layer = QuantConv2d.from_float(conv, weight_bits=2, act_bits=2)
    assert layer.weight is conv.weight
    assert layer.bias is conv.bias
    assert set(conv.state_dict()) <= set(layer.state_dict())
    x = torch.rand(1, 4, 9, 9)
    assert started(layer)(x).shape == conv(x).shape


def test_linear_output_is_that_of_the_codes():
    layer = QuantLinear.from_float(nn.Linear(16, 8), weight_bits=4, act_bits=4)
    x = torch.rand(3, 16)
    started(layer)
    integers = layer.input_quantizer.codes(x) @ layer.weight_codes().t()
    scale = layer.input_quantizer.step * layer.weight_quantizer.step
    torch.testing.assert_close(layer(x), integers * scale + layer.bias)


def test_deepcopy_and_state_dict():
    layer = QuantConv2d(4, 6, 3, bias=False, weight_bits=2, act_bits=2)
    copy = deepcopy(started(layer))
    copy.load_state_dict(layer.state_dict())
    x = torch.rand(1, 4, 5, 5)
    assert torch.equal(layer(x), copy(x))


def test_bf16_autocast_runs_and_learns():
    layer = QuantConv2d(4, 6, 3, bias=False, weight_bits=2, act_bits=2)
    started(layer)
    with torch.autocast('cpu', torch.bfloat16):
        layer(torch.rand(1, 4, 5, 5)).float().square().sum().backward()
    for parameter in layer.parameters():
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize('bits', [0, 1, 9, '2'])
def test_impossible_bits_name_the_argument(bits):
    with pytest.raises(UserError, match='act_bits'):
        QuantConv2d(4, 6, 3, act_bits=bits)
