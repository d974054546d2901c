import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantAdd

numbers = st.lists(st.floats(-1000, 1000, width=32), min_size=4, max_size=4)


def adder(clip: float, **options) -> QuantAdd:
    result = QuantAdd(**options)
    result.start(torch.tensor(clip))
    return result


def test_literal_sums():
    add = adder(255.0)  # step 1
    x = torch.tensor([0.5, 1.4, 200.0, -50.0, -3.0])
    y = torch.tensor([0.5, 1.4, 100.0, 60.0, 1.0])
    # Each branch is rounded, then the sum saturates to 0..255.
    assert add(x, y).tolist() == [2.0, 2.0, 255.0, 10.0, 0.0]


def test_signed_sums():
    add = adder(127.0, signed=True)
    x = torch.tensor([-100.0, -3.0, 100.0])
    assert add(x, x).tolist() == [-127.0, -6.0, 127.0]


@given(numbers, numbers, st.sampled_from([2, 4, 8, 16]), st.booleans())
def test_sum_is_that_of_the_rounded_branches(xs, ys, bits, signed):
    add = adder(700.0, bits=bits, signed=signed)
    x, y = torch.tensor(xs), torch.tensor(ys)
    step = add.step.double()
    total = torch.floor(x.double() / step + 0.5) + torch.floor(
        y.double() / step + 0.5
    )
    expected = total.clamp(add.grid.lo, add.grid.hi)
    # float32 may round a branch that lies within its precision of a tie.
    near_tie = (
        sum(
            ((b.double() / step + 0.5) % 1 < 1e-3)
            | ((b.double() / step + 0.5) % 1 > 1 - 1e-3)
            for b in (x, y)
        )
        > 0
    )
    codes = add.codes(x, y)
    assert torch.equal(codes[~near_tie].double(), expected[~near_tie])


def test_gradients():
    add = adder(3.0, bits=2)
    x = torch.tensor([1.0, 2.0, -5.0], requires_grad=True)
    y = torch.tensor([1.0, 2.0, 1.0], requires_grad=True)
    add(x, y).sum().backward()
    # Inside; above the grid; below it.
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    assert add.clip.grad.item() == pytest.approx(1.0)


@pytest.mark.parametrize('bits, signed', [(2, False), (8, True), (16, False)])
def test_a_hook_sees_the_roundings_that_the_sum_is_made_of(bits, signed):
    add = adder(2.0, bits=bits, signed=signed)
    x, y = (torch.randn(3, 4, 5, requires_grad=True) for _ in range(2))
    inputs = (x, y, add.clip)
    fused = add(x, y)
    seen = []

    def hook(z, rounding):
        seen.append(rounding)
        return rounding(z)

    add.hook = hook
    apart = add(x, y)
    assert len(seen) == 3
    assert torch.equal(fused, apart)
    weights = torch.randn(3, 4, 5)
    for a, b in zip(
        torch.autograd.grad((fused * weights).sum(), inputs),
        torch.autograd.grad((apart * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('first', [True, False])
def test_a_branch_of_fewer_bits_does_not_narrow_the_sum(first):
    # Under autocast a convolution's output may be bf16, the shortcut not.
    add = adder(1.7)
    pair = [torch.rand(4, 5), torch.rand(4, 5).bfloat16()]
    x, y = (z.requires_grad_() for z in (pair[::-1] if first else pair))
    inputs = (x, y, add.clip)
    fused = add(x, y)
    add.hook = lambda z, rounding: rounding(z)
    apart = add(x, y)
    assert fused.dtype == apart.dtype == torch.float32
    assert torch.equal(fused, apart)
    seed = torch.randn(4, 5)
    for a, b in zip(
        torch.autograd.grad(fused, inputs, seed),
        torch.autograd.grad(apart, inputs, seed),
        strict=True,
    ):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b)


def test_unequal_shapes_are_an_error():
    add = adder(1.7)
    message = r'operands of \(4, 5\) and \(1, 5\).*equal shapes alone'
    with pytest.raises(UserError, match=message):
        add(torch.rand(4, 5), torch.rand(1, 5))


def test_sums_with_a_number_are_left_as_they_are():
    add, x = adder(255.0), torch.tensor([0.3, -7.0])
    assert torch.equal(add(0, x), x) and torch.equal(add(x, 0), x)
    assert add(1, 2) == 3
