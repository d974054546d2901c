import pytest
import torch
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantActivation
from aqd_mmdet.layers.activation import FUNCTIONS
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
