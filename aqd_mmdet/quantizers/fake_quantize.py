"""Rounding, and its gradient."""

from typing import Any

import torch
from torch import Tensor

from .grid import Grid

# A clip value is used through its absolute value; this keeps the step away
# from zero, where x / step would be infinite. 2^-20 is far below any clip
# value that a network trains to, and exact in every float type.
MIN_CLIP = 2.0**-20


def round_half_up(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties towards plus infinity.

    The one rounding of this package, in training as in the integer program.
    """
    return torch.floor(x + 0.5)


def step_size(clip: Tensor, grid: Grid, zero: Tensor | int = 0) -> Tensor:
    """Return the real value of one unit of code: ``|clip| / (hi - zero)``."""
    return clip.abs().clamp_min(MIN_CLIP) / (grid.hi - zero)


def quantize(
    x: Tensor, clip: Tensor, grid: Grid, zero: Tensor | int = 0
) -> Tensor:
    """Return the codes of real values.

    Args:
        x: Real values, any shape.
        clip: Clip value, broadcastable to ``x``.
        grid: The number system.
        zero: Zero point: the code of 0, integral, of the clip value's shape.

    Returns:
        Tensor: Integral values of ``x``'s shape in float32 (or float64 where
        ``x`` is float64), each a code of the grid.
    """
    # Codes are computed in float32 at least: bf16 has 8 bits of mantissa,
    # too few to tell the codes of an 8-bit grid apart.
    wide = torch.promote_types(x.dtype, torch.float32)
    u = x.to(wide) / step_size(clip, grid, zero).to(wide)
    # One more tensor, then in place: on a CPU these passes over memory are
    # what quantised training costs.
    if isinstance(zero, Tensor) or zero:
        u += zero
    u = u.clamp(grid.lo, grid.hi)
    if grid.stride == 1:
        return u.add_(0.5).floor_()
    levels = u.sub_(grid.lo).div_(grid.stride).add_(0.5).floor_()
    return levels.mul_(grid.stride).add_(grid.lo)


class _FakeQuantize(torch.autograd.Function):
    """Quantise and return to real values, straight-through in the gradient.

    dy/dx = 1 inside the grid and 0 outside; dy/dclip = (y - x) / clip inside
    and y / clip outside, which is k/n - x/v, 1, 0 or -1 as published (AQD,
    section 3.1), for its unsigned and odd grids alike.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, clip: Tensor, grid: Grid, zero: Tensor | int
    ) -> Tensor:
        codes = quantize(x, clip, grid, zero)
        if isinstance(zero, Tensor) or zero:
            codes -= zero
        y = codes.mul_(step_size(clip, grid, zero).to(codes.dtype)).to(x.dtype)
        ctx.save_for_backward(x, clip, y)
        ctx.grid, ctx.zero = grid, zero
        return y

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, clip, y = ctx.saved_tensors
        grid, zero = ctx.grid, ctx.zero
        step = step_size(clip, grid, zero)
        # 1 where x lies inside the grid, else 0, in x's own type: on a CPU a
        # mask of booleans takes three times as long to multiply by.
        ends = ((grid.lo - zero) * step, (grid.hi - zero) * step)
        inside = x.clamp(*ends).eq_(x)
        grad_x = grad_clip = None
        if ctx.needs_input_grad[0]:
            grad_x = grad * inside
        if ctx.needs_input_grad[1]:
            # bf16 would lose the sum over a whole tensor.
            wide = torch.promote_types(x.dtype, torch.float32)
            slope = (y - inside.mul_(x)).to(wide)
            share = slope.mul_(grad).sum_to_size(clip.shape).to(clip.dtype)
            grad_clip = share * torch.sign(clip) / (step * (grid.hi - zero))
        return grad_x, grad_clip, None, None


def fake_quantize(
    x: Tensor, clip: Tensor, grid: Grid, zero: Tensor | int = 0
) -> Tensor:
    """Round to the grid's values; differentiable in ``x`` and ``clip``.

    Args:
        x: Real values, any shape, any float type.
        clip: Clip value, a float32 scalar or broadcastable to ``x``.
        grid: The number system.
        zero: Zero point, as of :func:`quantize`.

    Returns:
        Tensor: ``(code - zero) * step`` in ``x``'s shape and type.
    """
    return _FakeQuantize.apply(x, clip, grid, zero)
