from copy import deepcopy

import pytest
import torch
from mmcv.cnn import build_conv_layer
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantConv2d, QuantLinear, share_weights
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


@pytest.mark.parametrize(
    'padding, kernel, dilation, expected',
    [
        ('same', 3, 1, (1, 1)),
        ('same', (1, 5), 1, (0, 2)),
        ('same', 3, 2, (2, 2)),
        ('same', 2, 2, (1, 1)),
        ('valid', 3, 1, (0, 0)),
    ],
)
def test_paddings_by_name(padding, kernel, dilation, expected):
    conv = nn.Conv2d(2, 3, kernel, padding=padding, dilation=dilation)
    layer = QuantConv2d.from_float(conv)
    assert layer.padding == expected
    x = torch.randn(1, 2, 9, 8)
    exact = conv(x)
    assert layer.output_shape(x.shape) == exact.shape
    assert torch.equal(layer._conv_forward(x, conv.weight, conv.bias), exact)


def test_paddings_of_one_side_are_refused():
    conv = nn.Conv2d(2, 3, (3, 2), padding='same')
    with pytest.raises(UserError, match=r'Conv2d\(2, 3, .* odd kernel_size'):
        QuantConv2d.from_float(conv)


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


@pytest.mark.parametrize('layer', [QuantConv2d, QuantLinear])
def test_grids_of_inputs_have_no_gaps(layer):
    sizes = (2, 4, 1) if layer is QuantConv2d else (2, 4)
    with pytest.raises(UserError, match="the grid 'odd' has"):
        layer(*sizes, act_grid='odd', act_bits=2)


def by_channels(groups: int = 1, **quantization) -> QuantConv2d:
    """Inputs of the steps 1 and 1/4, zero points 1 and 3, codes 0..15."""
    layer = QuantConv2d(
        2, 4, (1, 2), padding=(0, 1), groups=groups, act_bits=4,
        act_grid='asymmetric', act_per_channel=True, **quantization,
    )  # fmt: skip
    zero = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    step = torch.tensor([1.0, 0.25]).view(1, 2, 1, 1)
    layer.input_quantizer.start((15 - zero) * step, zero)
    layer.weight_quantizer.start(torch.tensor(1.0))
    return layer


def test_weights_make_up_for_steps_of_channels():
    layer = by_channels(per_channel=True)
    assert layer.input_ratio().flatten().tolist() == [1.0, 0.25]
    x = torch.randn(1, 2, 3, 5) * 4
    # What an engine sums: differences of codes times codes of weights.
    zero = layer.input_quantizer.zero
    codes = layer.input_quantizer.codes(x) - zero
    weights = layer.weight_codes().double()
    sums = nn.functional.conv2d(codes.double(), weights, padding=(0, 1))
    # The step of the first channel, which is the largest, is the sum's.
    step = layer.weight_quantizer.step.view(-1, 1, 1)
    expected = sums * step + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x).double(), expected)


def test_dense_steps_of_channels_by_hand():
    """Weights of 1/2 and codes of 1/127 of them.

    In front of the second channel they are 1/8, whose code is 16; behind the
    ratio that is 64/127. Inputs 2 and 1/2 are codes 3 and 5.
    """
    layer = by_channels()
    nn.init.constant_(layer.weight, 0.5)
    nn.init.zeros_(layer.bias)
    assert layer.weight_codes()[0].tolist() == [[[64, 64]], [[16, 16]]]
    x = torch.tensor([2.0, 0.5]).view(1, 2, 1, 1)
    assert layer.input_quantizer.codes(x).flatten().tolist() == [3, 5]
    expected = (2 * 64 + 2 * 16) / 127
    y = layer(x)
    torch.testing.assert_close(y, torch.full_like(y, expected))


def test_channels_alone_have_steps_of_their_own():
    layer = by_channels(groups=2)
    assert layer.input_ratio() is None
    nn.init.constant_(layer.weight, 0.5)
    nn.init.zeros_(layer.bias)
    assert layer.weight_codes().unique().tolist() == [64]
    x = torch.tensor([2.0, 0.5]).view(1, 2, 1, 1)
    # Two outputs of each channel, over a border of zeros.
    expected = torch.tensor([2, 2, 0.5, 0.5]) * 64 / 127
    for column in range(2):
        torch.testing.assert_close(layer(x)[0, :, 0, column], expected)


def test_one_step_or_pixels_have_no_ratio():
    assert QuantConv2d(2, 4, 1, act_grid='asymmetric').input_ratio() is None
    assert QuantConv2d(3, 4, 1, act_grid='image').input_ratio() is None
    assert QuantLinear(2, 4, act_grid='asymmetric').input_ratio() is None


def test_asymmetric_inputs_have_a_zero_point():
    quantizer = QuantConv2d(2, 4, 1, act_grid='asymmetric').input_quantizer
    assert (quantizer.grid.lo, quantizer.grid.hi) == (0, 255)
    assert quantizer.zero.shape == ()
    quantizer = QuantConv2d(2, 4, 1, act_per_channel=True).input_quantizer
    assert quantizer.clip.shape == (1, 2, 1, 1)
    assert quantizer.zero == 0


def test_steps_of_channels_that_are_refused():
    with pytest.raises(UserError, match='^act_per_channel=True .* 2 groups'):
        QuantConv2d(4, 4, 1, groups=2, act_per_channel=True)
    with pytest.raises(UserError, match='^act_per_channel=True of a QuantLin'):
        QuantLinear(4, 4, act_per_channel=True)


def test_gradients_reach_weights_through_the_ratio():
    layer = by_channels()
    layer(torch.rand(1, 2, 3, 5)).square().sum().backward()
    for parameter in layer.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize('bits', [2, 8])
@pytest.mark.parametrize('bias', [False, True])
def test_weights_are_rounded_in_one_go_as_step_by_step(bits, bias):
    layer = started(QuantConv2d(4, 6, 3, bias=bias, weight_bits=bits))
    weights = torch.randn(layer.weight.shape)
    inputs = (layer.weight, layer.weight_quantizer.clip)
    whole = layer.quantized_weight()
    parts = layer.weight_quantizer(layer.scaled_weight())
    assert torch.equal(whole, parts)
    step = layer.weight_quantizer.step
    assert torch.equal(whole, layer.weight_codes() * step)
    for a, b in zip(
        torch.autograd.grad((whole * weights).sum(), inputs),
        torch.autograd.grad((parts * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('make', [QuantConv2d, QuantLinear])
def test_a_layer_keeps_its_input_in_place_of_what_it_is_rounded_to(make):
    args = (4, 6, 3) if make is QuantConv2d else (4, 6)
    layer = started(make(*args, act_bits=3))
    shape = (2, 4, 7, 9) if make is QuantConv2d else (5, 4)
    x = torch.randn(shape).abs().requires_grad_()
    seen = []
    own = layer.input_quantizer.forward
    layer.input_quantizer.forward = lambda z: seen.append(own(z)) or seen[-1]
    inputs = (x, layer.weight, layer.input_quantizer.clip)
    y = layer(x)
    seed = torch.randn(y.shape)
    found = torch.autograd.grad(y, inputs, seed)
    # Its memory can be overwritten: nothing reads it any more.
    y = layer(x)
    seen[-1].data.fill_(float('nan'))
    for a, b in zip(found, torch.autograd.grad(y, inputs, seed), strict=True):
        assert torch.equal(a, b)
    # The same as with operators that keep it.
    z = own(x).detach().requires_grad_()
    plain = (
        nn.functional.conv2d(z, layer.quantized_weight(), layer.bias)
        if make is QuantConv2d
        else nn.functional.linear(z, layer.quantized_weight(), layer.bias)
    )
    expected = torch.autograd.grad(plain, layer.weight, seed)
    torch.testing.assert_close(found[1], *expected)


def test_an_input_that_is_changed_in_place_is_an_error():
    layer = started(QuantConv2d(2, 3, 1))
    x = torch.rand(1, 2, 4, 4).requires_grad_() * 1
    y = layer(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match='in place|inplace'):
        y.sum().backward()


class Tower(nn.Module):
    """A convolution that is called for each level of a pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = started(QuantConv2d(2, 2, 1, bias=False, weight_bits=2))

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.conv(x) for x in levels]


def test_a_head_rounds_weights_once_for_all_levels(monkeypatch):
    alone, tower = Tower(), Tower()
    tower.load_state_dict(alone.state_dict())
    share_weights(tower)
    count = []
    own = QuantConv2d._quantized_weight
    monkeypatch.setattr(
        QuantConv2d,
        '_quantized_weight',
        lambda layer: count.append(layer) or own(layer),
    )
    levels = [torch.rand(1, 2, side, side) for side in (8, 4, 2)]
    grads = []
    for module in (alone, tower):
        outputs = module(levels)
        sum(y.square().sum() for y in outputs).backward()
        grads.append(module.conv.weight.grad)
    assert count == [alone.conv] * 3 + [tower.conv]
    torch.testing.assert_close(*grads)
    # A further step sees other weights.
    with torch.no_grad():
        tower.conv.weight.mul_(torch.tensor([[[[-1.0]], [[2.0]]]]))
    assert tower.conv.shared is None
    assert not torch.equal(tower(levels)[0], outputs[0])


def test_weights_are_shared_no_longer_than_a_call():
    tower = Tower()
    share_weights(tower)
    with pytest.raises(TypeError):
        tower(3)
    assert tower.conv.shared is None
    # With and without gradients, in one call.
    tower.forward = lambda levels: [
        *(tower.conv(x) for x in levels[:1]),
        *run_without_gradient(tower, levels),
    ]
    with_gradient, without = tower([torch.rand(1, 2, 4, 4)])
    assert with_gradient.requires_grad
    assert not without.requires_grad


@torch.no_grad()
def run_without_gradient(tower, levels):
    return [tower.conv(x) for x in levels]
