import pytest
import torch

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantMultiply


def layer(bits=3):
    multiply = QuantMultiply(bits)
    for quantizer in multiply.quantizers:
        quantizer.start(torch.tensor(3.0))  # codes -3..3, a step of 1
    return multiply


def test_products_are_of_rounded_operands():
    x = torch.tensor([-9.0, -1.6, 0.4, 2.4]).view(1, 1, 2, 2)
    y = torch.tensor([2.5]).view(1, 1, 1, 1)
    assert layer()(x, y).flatten().tolist() == [-9, -6, 0, 6]


def test_gradients_reach_operands_and_clip_values():
    x, y = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    multiply = layer()
    multiply(x, y).square().sum().backward()
    for tensor in (x, y, *multiply.parameters()):
        assert torch.isfinite(tensor.grad).all()


def test_impossible_widths():
    with pytest.raises(UserError, match='bits=1'):
        QuantMultiply(1)


def test_grids_with_gaps_are_refused():
    with pytest.raises(UserError, match="the grid 'odd' has"):
        QuantMultiply(4, 'odd')


def test_products_with_a_number_are_left_as_they_are():
    x = torch.tensor([0.3, -7.0])
    assert torch.equal(layer()(1, x), x) and torch.equal(layer()(x, 1), x)
