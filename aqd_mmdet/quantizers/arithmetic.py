"""What quantisers compute for each number of a tensor, and the gradients.

Functions of tensors and whole numbers alone, so that torch.compile can make
one pass over memory of each of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import Tensor

from ..patches import patched

# A clip value is used through its absolute value; this keeps the step away
# from zero, where x / step would be infinite. 2^-20 is far below any clip
# value that a network trains to, and exact in every float type.
MIN_CLIP = 2.0**-20
# Keeps a layer whose weights are all equal from dividing by zero.
MIN_STD = 2.0**-20
# A zero point; 0 where there is none.
Zero = Tensor | int


def step(clip: Tensor, zero: Zero, hi: int) -> Tensor:
    """Return the real value of one unit of code."""
    return clip.abs().clamp_min(MIN_CLIP) / (hi - zero)


def codes(
    x: Tensor, clip: Tensor, zero: Zero, lo: int, hi: int, stride: int
) -> Tensor:
    """Return codes as whole numbers in float32, or in float64 as ``x``."""
    # Codes are computed in float32 at least: bf16 has 8 bits of mantissa,
    # too few to tell the codes of an 8-bit grid apart.
    wide = torch.promote_types(x.dtype, torch.float32)
    u = x.to(wide) / step(clip, zero, hi).to(wide)
    # One more tensor, then in place: on a CPU these passes over memory are
    # what quantised training costs, where they are not compiled.
    if isinstance(zero, Tensor) or zero:
        u += zero
    u = u.clamp_(lo, hi)
    if stride == 1:
        return u.add_(0.5).floor_()
    levels = u.sub_(lo).div_(stride).add_(0.5).floor_()
    return levels.mul_(stride).add_(lo)


def values(
    x: Tensor, clip: Tensor, zero: Zero, lo: int, hi: int, stride: int
) -> Tensor:
    """Return ``(code - zero) * step``, in the type of ``x``."""
    k = codes(x, clip, zero, lo, hi, stride)
    if isinstance(zero, Tensor) or zero:
        k -= zero
    return k.mul_(step(clip, zero, hi).to(k.dtype)).to(x.dtype)


def gradients(
    grad: Tensor,
    x: Tensor,
    clip: Tensor,
    zero: Zero,
    lo: int,
    hi: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``x`` and of the clip value.

    dy/dx = 1 inside the grid and 0 outside; dy/dclip = (y - x) / clip inside
    and y / clip outside, which is k/n - x/v, 1, 0 or -1 as published (AQD,
    section 3.1), for its unsigned and odd grids alike.
    """
    y = values(x, clip, zero, lo, hi, stride)
    unit = step(clip, zero, hi)
    # 1 where x lies inside the grid, else 0, in x's own type: on a CPU a
    # mask of booleans takes three times as long to multiply by.
    inside = x.clamp((lo - zero) * unit, (hi - zero) * unit).eq_(x)
    grad_x = grad * inside
    # bf16 would lose the sum over a whole tensor.
    wide = torch.promote_types(x.dtype, torch.float32)
    slope = y.sub_(inside.mul_(x)).to(wide)
    share = slope.mul_(grad).sum_to_size(clip.shape).to(clip.dtype)
    return grad_x, share * torch.sign(clip) / (unit * (hi - zero))


def sums(
    x: Tensor, y: Tensor, clip: Tensor, limit: int, lo: int, hi: int
) -> Tensor:
    """Return sums of rounded values, saturated.

    Args:
        x, y: Real values, equal shapes.
        clip: Clip value of the sum.
        limit: Largest magnitude of a code of ``x`` or ``y``.
        lo, hi: Codes at the ends of the sum's grid.
    """
    unit = step(clip, 0, hi)
    return _total(x, y, clip, limit, hi).clamp_(lo * unit, hi * unit)


def _total(x: Tensor, y: Tensor, clip: Tensor, limit: int, hi: int) -> Tensor:
    wide = clip * (limit / hi)
    left, right = (values(z, wide, 0, -limit, limit, 1) for z in (x, y))
    # Not in place: under autocast one may have a narrower type.
    return left + right


def sum_gradients(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    clip: Tensor,
    limit: int,
    lo: int,
    hi: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of both operands and of the sum's clip value."""
    unit, wide = step(clip, 0, hi), clip * (limit / hi)
    total = _total(x, y, clip, limit, hi)
    # Slopes of the clip value where the sum is beyond its grid.
    slope = torch.where(
        total > hi * unit, 1.0, torch.where(total < lo * unit, lo / hi, 0.0)
    )
    precise = torch.promote_types(grad.dtype, torch.float32)
    share = (grad.to(precise) * slope).sum().to(clip.dtype) * torch.sign(clip)
    inner = grad * total.clamp(lo * unit, hi * unit).eq_(total)
    grad_x, left = gradients(inner, x, wide, 0, -limit, limit, 1)
    grad_y, right = gradients(inner, y, wide, 0, -limit, limit, 1)
    return grad_x, grad_y, share + (left + right) * (limit / hi)


def normalized(weight: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return weights of mean 0 and deviation 1."""
    return (weight - mean) / std


def statistics(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of a whole layer's weights."""
    std = weight.std(unbiased=False).clamp_min(MIN_STD)
    return weight.mean(), std


def weight_values(
    weight: Tensor, clip: Tensor, lo: int, hi: int, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rounded normalised weights, and the two statistics."""
    mean, std = statistics(weight)
    y = values(normalized(weight, mean, std), clip, 0, lo, hi, stride)
    return y, mean, std


def weight_gradients(
    grad: Tensor,
    weight: Tensor,
    mean: Tensor,
    std: Tensor,
    clip: Tensor,
    lo: int,
    hi: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of weights and of the clip value.

    None flows through the statistics (AQD, section 3.1).
    """
    x = normalized(weight, mean, std)
    grad_x, share = gradients(grad, x, clip, 0, lo, hi, stride)
    return grad_x.div_(std), share


# What runs in training; `compiled` replaces these functions.
run = SimpleNamespace(
    values=values,
    gradients=gradients,
    sums=sums,
    sum_gradients=sum_gradients,
    weight_values=weight_values,
    weight_gradients=weight_gradients,
)


@contextmanager
def compiled() -> Iterator[None]:
    """Let torch.compile fuse the functions of :data:`run` while it is open.

    A rounding is then one pass over memory, and its gradient another; without
    it they are five and twelve. Values are equal; sums over a tensor, which
    are in gradients of clip values and in the statistics of weights, may be
    taken in another order.
    """
    functions = {
        name: torch.compile(function, dynamic=True, fullgraph=True)
        for name, function in vars(run).items()
    }
    with patched(run, **functions):
        yield
