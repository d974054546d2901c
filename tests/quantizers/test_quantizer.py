from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.quantizers import (
    Grid,
    ImageQuantizer,
    Quantizer,
    TensorQuantizer,
    build_grid,
)


def quantizer(clip: float = 3.0) -> Quantizer:
    result = TensorQuantizer(build_grid('unsigned', 2))
    result.start(torch.tensor(clip))
    return result


def test_values_are_codes_times_step():
    q = quantizer(1.7)
    x = torch.randn(100)
    assert torch.equal(q(x), q.codes(x) * q.step)
    assert q.codes(x).dtype == torch.int32


def test_state_dict_carries_clip_and_start():
    other = TensorQuantizer(build_grid('unsigned', 2))
    assert not other.started
    other.load_state_dict(quantizer(1.7).state_dict())
    assert other.started
    assert other.clip.item() == torch.tensor(1.7).item()


@pytest.mark.parametrize('use', ['forward', 'codes'])
def test_nothing_is_rounded_before_a_start(use):
    q = TensorQuantizer(build_grid('unsigned', 2))
    with pytest.raises(UserError, match='2 bits has no clip value yet'):
        getattr(q, use)(torch.rand(3))
    with pytest.raises(UserError, match='CalibrationHook'):
        _ = q.step
    q.start(torch.tensor(1.0))
    getattr(q, use)(torch.rand(3))


def test_a_copied_buffer_is_a_start():
    # As an average of models has it, which copies buffers by value.
    q = TensorQuantizer(build_grid('unsigned', 2))
    with pytest.raises(UserError):
        q(torch.rand(3))
    q.started.copy_(torch.tensor(True))
    q(torch.rand(3))


# Grid, whether weights were normalised, whether there is a zero point.
FORMATS = [
    (build_grid(name, bits), normalized, asymmetric)
    for name in ('unsigned', 'signed', 'leaky', 'odd')
    for bits in range(2, 9)
    for normalized, asymmetric in (
        (False, False),
        (True, False),
        (False, True),
    )
]


def of_format(grid: Grid, normalized: bool, asymmetric: bool) -> Quantizer:
    return TensorQuantizer(grid, (), normalized, asymmetric)


def test_formats_tell_grids_apart():
    kept = {}
    for each in FORMATS:
        numbers = tuple(of_format(*each).format.tolist())
        assert kept.setdefault(numbers, each) == each
    assert len(kept) == len(FORMATS)


@given(st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_a_clip_value_of_another_format_is_not_taken_over(one, other):
    source, target = of_format(*one), of_format(*other)
    source.start(torch.tensor(1.7))
    target.load_state_dict(source.state_dict())
    assert bool(target.started) == (one == other)
    assert (target.clip.item() == source.clip.item()) == (one == other)
    # It is still its own.
    assert torch.equal(target.format, of_format(*other).format)


def test_deepcopy_is_independent():
    q = quantizer()
    copy = deepcopy(q)
    copy.start(torch.tensor(9.0))
    assert q.clip.item() == 3.0


def test_a_hook_is_given_values_and_returns_what_goes_on():
    q, seen = quantizer(), []
    x = torch.randn(5)
    expected, codes = q(x), q.codes(x)

    def hook(x, rounding):
        seen.append(x)
        assert torch.equal(rounding(x), expected)
        assert torch.equal(rounding.codes(x), codes)
        assert rounding.step == q.step
        return x

    q.hook = hook
    assert q(x) is x
    assert seen == [x]


def test_clipped_share():
    x = torch.tensor([0.0, 1.0, 4.0, 5.0])
    assert quantizer(3.0).clipped_share(x).item() == 0.5


def test_clipped_share_of_both_ends():
    # Codes 0..3 with a zero point of 1: values from -1 to 2.
    q = TensorQuantizer(Grid(2, 0, 3), asymmetric=True)
    q.start(torch.tensor(2.0), torch.tensor(1.0))
    x = torch.tensor([-2.0, -1.0, 1.5, 2.5])
    assert q.clipped_share(x).item() == 0.5


def test_compiled_equals_eager():
    q = quantizer(1.7)
    x = torch.randn(64, requires_grad=True)
    eager = q(x)
    compiled = torch.compile(q, backend='aot_eager')(x)
    assert torch.equal(eager, compiled)
    grads = [
        torch.autograd.grad(y.square().sum(), (x, q.clip))
        for y in (eager, compiled)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_keeps_codes():
    q = quantizer(1.7)
    x = torch.randn(1000)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(q(x), q.codes(x) * q.step)


def test_image_pixels_are_codes():
    q = ImageQuantizer()
    x = torch.tensor([-123.0, 0.4, 0.5, 131.0, 999.0])
    assert q(x).tolist() == [-123.0, 0.0, 1.0, 131.0, 255.0]


def asymmetric(clip: float = 2.0, zero: float = 1.0) -> Quantizer:
    """Codes 0..3 that stand for -1..2."""
    result = TensorQuantizer(build_grid('unsigned', 2), asymmetric=True)
    result.start(torch.tensor(clip), torch.tensor(zero))
    return result


def test_a_zero_point_moves_codes_and_not_values():
    q, seen = asymmetric(), []
    x = torch.tensor([-9.0, -0.6, 0.0, 1.4, 9.0])
    assert q.step == 1
    assert q.codes(x).tolist() == [0, 0, 1, 2, 3]
    assert q(x).tolist() == [-1, -1, 0, 1, 2]

    def hook(x, rounding):
        seen.append(rounding.values(rounding.codes(x)).tolist())
        return rounding(x)

    q.hook = hook
    assert q(x).tolist() == [-1, -1, 0, 1, 2]
    assert seen == [[-1, -1, 0, 1, 2]]


def test_values_of_pixels_are_their_codes():
    q, seen = ImageQuantizer(), []
    q.hook = lambda x, rounding: seen.append(rounding.values(x)) or x
    q(torch.tensor([-7.0, 9.0]))
    assert seen[0].tolist() == [-7, 9]


def test_state_dict_carries_the_zero_point():
    other = TensorQuantizer(build_grid('unsigned', 2), asymmetric=True)
    other.load_state_dict(asymmetric(1.7, 2.0).state_dict())
    assert other.started
    assert other.zero.item() == 2
    assert other.clip.item() == torch.tensor(1.7).item()


def test_a_zero_point_of_another_format_is_not_taken_over():
    other = TensorQuantizer(build_grid('unsigned', 3), asymmetric=True)
    other.load_state_dict(asymmetric(1.7, 2.0).state_dict())
    assert not other.started
    assert (other.zero.item(), other.clip.item()) == (0, 1)


def test_a_zero_point_of_another_format_has_another_shape():
    # Of a layer that had one number for each channel.
    source = TensorQuantizer(
        build_grid('unsigned', 3), (1, 4, 1, 1), False, True
    )
    target = TensorQuantizer(build_grid('unsigned', 2), asymmetric=True)
    target.load_state_dict(source.state_dict())
    assert target.zero.shape == target.clip.shape == ()
