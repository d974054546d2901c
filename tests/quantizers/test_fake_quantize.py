import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.quantizers.fake_quantize import (
    fake_quantize,
    quantize,
    round_half_up,
)
from aqd_mmdet.quantizers.grid import Grid, build_grid, weight_grid

GRIDS = [
    build_grid(name, bits)
    for name in ('unsigned', 'signed', 'odd')
    for bits in (2, 3, 4, 7)
] + [weight_grid(8), build_grid('unsigned', 8)]
clips = st.floats(2**-10, 2**10, width=32)
values = st.lists(
    st.floats(-(2**12), 2**12, width=32), min_size=1, max_size=20
)


def test_ties_go_up():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert round_half_up(x).tolist() == [-2, -1, 0, 1, 2, 3]


def test_literal_codes_unsigned_2_bits():
    # Steps of 1 up to 3; the ties 0.5, 1.5 and 2.5 go up.
    x = torch.tensor([-1.0, 0.0, 0.49, 0.5, 1.49, 1.5, 2.5, 3.0, 99.0])
    codes = quantize(x, torch.tensor(3.0), build_grid('unsigned', 2))
    assert codes.tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 3]


def test_literal_codes_odd_2_bits():
    # Codes -3, -1, 1, 3 with step 1; the ties -2, 0 and 2 go up.
    x = torch.tensor([-9.0, -3.0, -2.1, -2.0, -0.1, 0.0, 1.9, 2.0, 9.0])
    codes = quantize(x, torch.tensor(3.0), weight_grid(2))
    assert codes.tolist() == [-3, -3, -3, -1, -1, 1, 1, 3, 3]


def test_literal_codes_signed_8_bits():
    x = torch.tensor([-200.0, -127.0, -0.5, 0.0, 0.5, 126.5, 200.0])
    codes = quantize(x, torch.tensor(127.0), weight_grid(8))
    assert codes.tolist() == [-127, -127, 0, 0, 1, 127, 127]


@given(values, clips, st.sampled_from(GRIDS))
def test_codes_are_the_grids_nearest(xs, clip, grid):
    x, v = torch.tensor(xs, dtype=torch.float64), torch.tensor(clip).double()
    codes = quantize(x, v, grid)
    allowed = torch.tensor(list(grid.codes), dtype=torch.float64)
    assert torch.isin(codes, allowed).all()
    distance = (x[:, None] - allowed * v / grid.hi).abs().amin(1)
    error = (x - codes * v / grid.hi).abs()
    assert (error <= distance * (1 + 1e-9) + 1e-9).all()


@given(values, clips, st.sampled_from(GRIDS))
def test_quantising_twice_changes_nothing(xs, clip, grid):
    v = torch.tensor(clip)
    once = fake_quantize(torch.tensor(xs), v, grid)
    assert torch.equal(fake_quantize(once, v, grid), once)
    assert torch.equal(quantize(once, -v, grid), quantize(once, v, grid))


def gradients(x, clip, grid, zero=0):
    x = torch.tensor([x], requires_grad=True)
    clip = torch.tensor(clip, requires_grad=True)
    fake_quantize(x, clip, grid, zero).sum().backward()
    return round(x.grad.item(), 6), round(clip.grad.item(), 6)


def test_literal_gradients_unsigned():
    grid = build_grid('unsigned', 2)
    # Inside: dy/dclip = k/n - x/v; at the edges and outside as published.
    assert gradients(1.2, 3.0, grid) == (1.0, round(1 / 3 - 0.4, 6))
    assert gradients(3.0, 3.0, grid) == (1.0, 0.0)
    assert gradients(3.1, 3.0, grid) == (0.0, 1.0)
    assert gradients(0.0, 3.0, grid) == (1.0, 0.0)
    assert gradients(-0.1, 3.0, grid) == (0.0, 0.0)


def test_literal_gradients_odd():
    grid = weight_grid(2)
    assert gradients(1.2, 3.0, grid) == (1.0, round(1 / 3 - 0.4, 6))
    assert gradients(-3.1, 3.0, grid) == (0.0, -1.0)
    assert gradients(3.1, 3.0, grid) == (0.0, 1.0)
    # A negative clip value acts through its absolute value.
    assert gradients(3.1, -3.0, grid) == (0.0, -1.0)


@pytest.mark.parametrize('grid', GRIDS)
def test_gradcheck_where_it_is_smooth(grid: Grid):
    # Outside the grid the output is +-clip or 0: smooth in both arguments.
    x = torch.tensor([-9.0, -5.0, 5.0, 9.0], dtype=torch.float64)
    clip = torch.tensor(2.0, dtype=torch.float64)
    x.requires_grad_()
    clip.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: fake_quantize(a, b, grid), (x, clip)
    )


def test_gradient_of_clip_per_channel():
    x = torch.full((2, 3), 5.0)
    clip = torch.tensor([[1.0], [8.0]], requires_grad=True)
    fake_quantize(x, clip, build_grid('signed', 8)).sum().backward()
    assert clip.grad[0].item() == 3.0
    assert clip.grad[1].abs().item() < 0.1


def test_bf16_values_get_float32_codes():
    grid = build_grid('unsigned', 8)
    x = torch.linspace(0, 1, 999).to(torch.bfloat16)
    clip = torch.tensor(0.9)
    assert torch.equal(
        quantize(x, clip, grid), quantize(x.float(), clip, grid)
    )
    assert fake_quantize(x, clip, grid).dtype == torch.bfloat16


def test_zero_clip_is_finite():
    y = fake_quantize(torch.ones(3), torch.tensor(0.0), weight_grid(2))
    assert torch.isfinite(y).all()


def test_literal_codes_with_a_zero_point():
    # Codes 0..3 stand for -1..2 with step 1; the ties -0.5, 0.5 and 1.5 go up.
    x = torch.tensor([-9.0, -1.0, -0.6, -0.5, 0.0, 0.4, 0.5, 1.5, 2.0, 9.0])
    grid, clip, zero = build_grid('unsigned', 2), torch.tensor(2.0), 1
    for point in (torch.tensor(1.0), zero):
        codes = quantize(x, clip, grid, point)
        assert codes.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 3, 3]
        values = fake_quantize(x, clip, grid, point)
        assert values.tolist() == [-1, -1, -1, 0, 0, 0, 1, 2, 2, 2]


def test_literal_codes_with_zero_points_of_channels():
    # Steps of 1 and 2: -1..2 and -4..2.
    clip = torch.tensor([[2.0], [2.0]])
    zero = torch.tensor([[1.0], [2.0]])
    x = torch.tensor([[-2.0, 0.6, 9.0], [-5.0, 0.6, 9.0]])
    grid = build_grid('unsigned', 2)
    assert quantize(x, clip, grid, zero).tolist() == [[0, 2, 3], [0, 2, 3]]
    values = fake_quantize(x, clip, grid, zero)
    assert values.tolist() == [[-1, 1, 2], [-4, 0, 2]]


def test_literal_gradients_with_a_zero_point():
    grid, zero = build_grid('unsigned', 2), torch.tensor(1.0)
    # Codes stand for -1..2. Inside: (y - x) / clip, outside: y / clip.
    assert gradients(0.3, 2.0, grid, zero) == (1.0, -0.15)
    assert gradients(-1.0, 2.0, grid, zero) == (1.0, 0.0)
    assert gradients(2.0, 2.0, grid, zero) == (1.0, 0.0)
    assert gradients(-3.0, 2.0, grid, zero) == (0.0, -0.5)
    assert gradients(2.5, 2.0, grid, zero) == (0.0, 1.0)
    # A negative clip value acts through its absolute value.
    assert gradients(-3.0, -2.0, grid, zero) == (0.0, 0.5)


def test_gradient_of_clips_with_zero_points_of_channels():
    x = torch.tensor([[-5.0, 5.0, 0.3], [-5.0, 5.0, 0.3]])
    clip = torch.tensor([[2.0], [3.0]], requires_grad=True)
    zero = torch.tensor([[1.0], [0.0]])
    fake_quantize(x, clip, build_grid('unsigned', 2), zero).sum().backward()
    expected = torch.tensor([[-0.5 + 1 - 0.15], [0 + 1 - 0.1]])
    torch.testing.assert_close(clip.grad, expected)
