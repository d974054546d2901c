"""The compiled arithmetic is PyTorch's, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aqd_mmdet.quantizers import arithmetic, native
from aqd_mmdet.quantizers.fake_quantize import fake_quantize
from aqd_mmdet.quantizers.grid import build_grid

# lo, hi, stride and zero point: unsigned, signed, odd, asymmetric.
GRIDS = [
    *((0, 2**bits - 1, 1, 0) for bits in (2, 3, 8)),
    (-128, 127, 1, 0),
    *((1 - 2**bits, 2**bits - 1, 2, 0) for bits in (2, 4)),
    (0, 255, 1, 37),
    (0, 255, 1, torch.tensor(200.0)),
]
LIMIT = 2**10
UNUSUAL = [0.0, -0.0, 1e-42, 3e38, *map(float, ('inf', '-inf', 'nan'))]
clips = st.one_of(
    st.floats(-(2**10), 2**10, width=32), st.just(0.0)
).map(torch.tensor)  # fmt: skip
seeds = st.integers(0, 2**31)


@pytest.fixture(autouse=True, scope='module')
def _built() -> None:
    assert native.library() is not None


def numbers(seed: int) -> list[Tensor]:
    """Return three tensors, of ties and of unusual numbers as well."""
    torch.manual_seed(seed)
    count = int(torch.randint(1, 3000, ()))
    made = torch.randn(3, count) * 10.0 ** torch.randint(-2, 3, ())
    made[:2, ::7] = made[:2, ::7].round() / 2
    at = torch.randint(count, (2, len(UNUSUAL)))
    made[:2].scatter_(1, at, torch.tensor(UNUSUAL).expand(2, -1))
    return list(made)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether all bits are equal, but for those of a zero's sign or NaN."""
    return one.dtype == other.dtype and torch.equal(
        one.nan_to_num(12345.0), other.nan_to_num(12345.0)
    )


def assert_near(share: Tensor, other: Tensor, terms: float) -> None:
    """Sums have another order: their error is relative to all terms."""
    assert share.dtype == other.dtype
    torch.testing.assert_close(
        share, other, rtol=1e-4, atol=1e-5 * terms, equal_nan=True
    )


@pytest.mark.parametrize('grid', GRIDS)
@given(seed=seeds, clip=clips)
def test_roundings(grid, seed, clip):
    lo, hi, stride, zero = grid
    x, _, grad = numbers(seed)
    rest = (x, clip, zero, lo, hi, stride)
    assert same(native.values(*rest), arithmetic.values(*rest))
    found, share = native.gradients(grad, *rest)
    expected, other = arithmetic.gradients(grad, *rest)
    assert same(found, expected)
    finite = x.isfinite()
    if finite.all():
        largest = x.abs().sum() + len(x) * clip.abs() + 1
        scale = float(largest * grad.abs().max() / max(abs(clip), 2**-20))
        assert_near(share, other, scale)


@given(seed=seeds, clip=clips)
def test_additions(seed, clip):
    x, y, grad = numbers(seed)
    rest = (x, y, clip, LIMIT, 0, 255)
    assert same(native.sums(*rest), arithmetic.sums(*rest))
    *found, _ = native.sum_gradients(grad, *rest)
    *expected, _ = arithmetic.sum_gradients(grad, *rest)
    assert all(map(same, found, expected))


@given(seed=seeds, clip=clips)
def test_weights(seed, clip):
    _, _, weight = numbers(seed)
    rest = (weight, clip, -3, 3, 2)
    made = native.weight_values(*rest)
    assert all(map(same, made, arithmetic.weight_values(*rest)))
    rest = (weight.flip(0), weight, *made[1:], *rest[1:])
    found, share = native.weight_gradients(*rest)
    expected, other = arithmetic.weight_gradients(*rest)
    assert same(found, expected)
    if abs(clip) > 1e-3:
        assert_near(share, other, float(weight.abs().sum() / abs(clip)))


def test_literal_gradient_of_a_sums_clip_value():
    # Step 1, codes 0..3, as in test_arithmetic.py.
    x = torch.tensor([0.5, 2.6, -4.0, 1.0])
    y = torch.tensor([0.5, 2.6, 1.0, -0.6])
    *_, share = native.sum_gradients(
        torch.ones(4), x, y, torch.tensor(3.0), 16, 0, 3
    )
    inside = (0.5 + 0.5 + 0.0 + (-1.0 + 0.6)) / 3
    assert share.item() == pytest.approx(inside + 1)


def test_sums_do_not_depend_on_threads():
    torch.manual_seed(0)
    x, y, grad = torch.randn(3, 2**19 + 5)
    clip = torch.tensor(1.5)
    before = torch.get_num_threads()
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made.append(
            (
                *native.gradients(grad, x, clip, 0, 0, 3, 1),
                *native.sum_gradients(grad, x, y, clip, LIMIT, 0, 255),
            )
        )
    torch.set_num_threads(before)
    for other in made[1:]:
        assert all(map(torch.equal, made[0], other))


@pytest.mark.parametrize(
    'dtype, shape', [(torch.float64, ()), (torch.float32, (1, 4, 1, 1))]
)
def test_others_are_left_to_pytorch(dtype, shape, monkeypatch):
    monkeypatch.setattr(native, '_call', None)
    x = torch.randn(2, 4, 3, 3, dtype=dtype, requires_grad=True)
    clip = torch.ones(shape, requires_grad=True)
    fake_quantize(x, clip, build_grid('unsigned', 2)).sum().backward()
    assert x.grad.dtype == dtype
    assert clip.grad.shape == shape


def test_gradients_have_the_clip_values_type():
    before = torch.get_default_dtype()
    x, clip = torch.ones(3), torch.tensor(1.5)
    torch.set_default_dtype(torch.float64)
    try:
        _, share = native.gradients(x, x, clip, 0, 0, 3, 1)
        *_, sum_share = native.sum_gradients(x, x, x, clip, LIMIT, 0, 255)
    finally:
        torch.set_default_dtype(before)
    assert share.dtype == sum_share.dtype == torch.float32
