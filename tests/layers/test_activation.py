import numpy as np
import pytest
import torch
from mmcv.cnn.bricks import HSigmoid
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantActivation
from aqd_mmdet.layers.activation import (
    ACTIVATION,
    FUNCTIONS,
    ActivationOptions,
    FixedPointActivation,
)
from tests.factories import started


def test_values_are_those_of_the_codes():
    layer = QuantActivation(nn.LeakyReLU(0.5), bits=3)
    layer.start(torch.tensor(3.0))  # codes -3..3, a step of 1
    x = torch.tensor([-9.0, -2.5, -0.6, 0.4, 0.5, 2.2, 9.0])
    assert layer(x).tolist() == [-1.5, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize('function', FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_no_more_values_than_codes(function, bits):
    layer = started(QuantActivation(function(), bits))
    x = torch.linspace(-3, 3, 2001)
    assert len(layer(x).unique()) <= 2**bits - 1


def test_gradients_reach_input_and_clip_value():
    layer = started(QuantActivation(nn.SiLU()))
    x = torch.randn(50, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0
    assert torch.isfinite(layer.clip.grad) and layer.clip.grad != 0


def test_a_hook_is_given_the_input():
    layer = QuantActivation(nn.SiLU(), 2)
    seen = []
    layer.hook = lambda x, rounding: seen.append(x) or x
    x = torch.randn(9)
    assert torch.equal(layer(x), nn.functional.silu(x))
    assert torch.equal(seen[0], x)


def test_by_name():
    layer = QuantActivation(dict(type='LeakyReLU', negative_slope=0.1))
    assert layer.function.negative_slope == 0.1


def test_impossible_widths():
    with pytest.raises(UserError, match='bits=9'):
        QuantActivation(nn.SiLU(), 9)


def channels(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def fixed_point(bits: int, *clips: float) -> FixedPointActivation:
    layer = FixedPointActivation(nn.LeakyReLU(0.5), bits)
    layer.start(channels(*clips))
    return layer


def test_steps_of_a_fixed_point_are_powers_of_two():
    # 256 / 255 is more than 1; the least clip value is 2^-20, of 2^8 codes.
    layer = fixed_point(9, 255.0, 256.0, -63.75, 0.0)
    assert layer.step.flatten().tolist() == [1.0, 2.0, 0.25, 2.0**-27]
    assert layer.clip.flatten().tolist()[:3] == [255.0, 510.0, 63.75]
    assert not layer.clip.requires_grad


def test_literal_values_of_a_fixed_point():
    # Codes -256..255 of the steps 1 and 1/4; ties go up.
    layer = fixed_point(9, 255.0, 63.75)
    x = torch.tensor([-999.0, -1.5, -0.6, 0.4, 0.5, 999.0]).expand(1, 2, 1, 6)
    assert layer(x)[0, :, 0].tolist() == [
        [-128.0, -0.5, -0.5, 0.0, 1.0, 255.0],
        [-32.0, -0.75, -0.25, 0.5, 0.5, 63.75],
    ]
    assert layer.codes(x)[0, :, 0].tolist() == [
        [-256, -1, -1, 0, 1, 255],
        [-256, -6, -2, 2, 2, 255],
    ]


def test_the_output_has_the_range_of_the_input_or_1():
    layer = fixed_point(9, 255.0, 255.0 / 2**10)
    # 2^8 / 2^15, and 2^-2 / 2^15 that is raised to 1 / 2^15.
    assert layer.output_step().flatten().tolist() == [2.0**-7, 2.0**-15]


@pytest.mark.parametrize(
    'function, gain',
    [
        *((function(), 1) for function in FUNCTIONS),
        (nn.ELU(alpha=10.0), 8),
        (nn.LeakyReLU(2.0), 2),
        (nn.LeakyReLU(1.0), 1),
        (HSigmoid(bias=3.0, divisor=1.0, min_value=0, max_value=6), 4),
    ],
    ids=str,
)
def test_the_output_holds_larger_values_of_a_function(function, gain):
    layer = FixedPointActivation(function, 14)
    assert layer.gain == gain
    layer.start(torch.tensor(3.0))
    x = torch.linspace(-3, 3, 999)
    assert (layer(x) - function(x)).abs().max() < 0.02
    step = layer.step * 2.0**-2
    assert torch.equal(layer.output_step(), step * gain)


class Exp(nn.Module):
    def forward(self, x):
        return x.exp()


def test_functions_whose_values_have_no_end_are_refused():
    with pytest.raises(UserError, match=r'Exp\(\): .* inf times its input'):
        FixedPointActivation(Exp())


def test_functions_that_are_trained_are_refused():
    with pytest.raises(UserError, match=r'PReLU.*: it has parameters'):
        FixedPointActivation(dict(type='PReLU'))


@pytest.mark.parametrize('function', FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('bits', [9, 14])
def test_fixed_points_are_on_their_grids(function, bits):
    layer = FixedPointActivation(function(), bits)
    layer.start(channels(0.3, 5.0))
    x = torch.linspace(-7, 7, 999).expand(1, 2, 1, 999)
    y = layer(x)
    read = layer.codes(x)
    assert read.min() == -(2 ** (bits - 1))
    assert read.max() == 2 ** (bits - 1) - 1
    made = y / layer.output_step()
    assert torch.equal(made, made.round())
    assert made.abs().max() <= 2**15
    # Slopes of these functions change by at most 1. Where one changes by d
    # within a line, the line is off by at most an eighth of its length by d.
    goal = layer.function(read * layer.step)
    length = layer.step * 2 ** (bits - 6)
    assert ((y - goal).abs() <= length / 8 + layer.output_step()).all()


def test_a_table_is_of_64_lines():
    layer = fixed_point(12, 2047.0)
    row = layer.table(torch.tensor([1.0]))[0].unflatten(0, (64, 64))
    # The slopes of LeakyReLU are 8 and 16 codes of the result for each code.
    assert row[0, :3].tolist() == [-16384, -16376, -16368]
    assert row[63, -2:].tolist() == [16 * 2046, 16 * 2047]
    layer.function = nn.SiLU()
    (row,) = layer.table(torch.tensor([2.0**-8]))
    # From 0 to 0.25, where SiLU's mean slope is 0.56: in 2^-12, of codes 2^-8.
    line = row[2048 : 2048 + 64]
    assert line[:4].tolist() == [-10, -1, 8, 17]
    assert line[-2:].tolist() == [547, 556]


@pytest.mark.parametrize('bits', [9, 12, 14])
def test_lines_have_the_least_squared_error(bits):
    layer = FixedPointActivation(nn.SiLU(), bits)
    step = torch.tensor([2.0 ** (3 - bits)])
    codes = torch.arange(layer.grid.lo, layer.grid.hi + 1)
    exact = layer.function(codes * step.double())
    exact = exact / layer.output_step_of(step.double())
    table = layer.table(step)[0].unflatten(0, (64, -1))
    exact = exact.unflatten(0, (64, -1))
    i = torch.arange(exact.shape[1]).double()
    for line, goal in zip(table, exact, strict=True):
        fitted = np.polyval(np.polyfit(i, goal, 1), i)
        # A slope and a first value are rounded: by a half each.
        assert abs(line.numpy() - fitted).max() <= 1.5 + 2**-5


def test_a_fixed_point_of_more_channels_is_loaded():
    source = fixed_point(9, 255.0, 63.75)
    other = FixedPointActivation(nn.LeakyReLU(0.5), 9)
    parameter = other.clip
    other.load_state_dict(source.state_dict())
    # An average of weights that was made before holds it.
    assert other.clip is parameter
    x = torch.randn(2, 2, 3, 3) * 50
    assert torch.equal(other(x), source(x))
    assert not other.clip.requires_grad
    # One of another width is not.
    other = FixedPointActivation(nn.LeakyReLU(0.5), 10)
    other.load_state_dict(source.state_dict())
    assert not other.started


@pytest.mark.parametrize('kind', [torch.bfloat16, torch.float16])
def test_values_of_16_bits_have_codes_of_more(kind):
    layer = FixedPointActivation(nn.SiLU(), 14)
    layer.start(channels(1.0, 8.0, 100.0))
    x = torch.tensor([-200.0, 0.5, 99.0, 200.0]).view(1, 1, 2, 2)
    x = x.expand(1, 3, 2, 2).to(kind)
    made = layer(x)
    assert made.dtype == kind
    assert torch.equal(made, layer(x.float()).to(kind))


@pytest.mark.parametrize('bits', [8, 15, 16, '12', 12.5, None])
def test_widths_of_fixed_points(bits):
    with pytest.raises(UserError, match=f'bits={bits!r} of .* from 9 to 14'):
        FixedPointActivation(nn.SiLU(), bits)


@pytest.mark.parametrize(
    'bits, layer',
    [
        (2, QuantActivation),
        (8, QuantActivation),
        (9, FixedPointActivation),
        (14, FixedPointActivation),
    ],
)
def test_the_width_chooses_the_layer(bits, layer):
    options = ActivationOptions(bits)
    assert type(ACTIVATION.build(nn.SiLU(), options, 4)) is layer


@pytest.mark.parametrize('bits', [1, 15, 16])
def test_widths_that_no_activation_has(bits):
    with pytest.raises(UserError, match=f'bits={bits} is not a bit width'):
        ActivationOptions(bits)


def test_a_hook_is_given_both_roundings_of_a_fixed_point():
    layer = fixed_point(9, 255.0)
    seen = []
    layer.hook = lambda x, rounding: seen.append(rounding.grid.bits) or x
    x = torch.randn(1, 1, 2, 2)
    assert torch.equal(layer(x), nn.functional.leaky_relu(x, 0.5))
    assert seen == [9, 16]
