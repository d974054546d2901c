"""Rounding as operators of a network, with their gradients.

They keep their inputs alone for the gradient, which other layers keep anyway;
what was made of these is computed again.
"""

from typing import Any

import torch
from torch import Tensor

from . import arithmetic, native
from .arithmetic import Zero
from .grid import Grid


def round_half_up(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties towards plus infinity.

    The one rounding of this package, in training as in the integer program.
    """
    return torch.floor(x + 0.5)


def step_size(clip: Tensor, grid: Grid, zero: Zero = 0) -> Tensor:
    """Return the real value of one unit of code: ``|clip| / (hi - zero)``."""
    return arithmetic.step(clip, zero, grid.hi)


def quantize(x: Tensor, clip: Tensor, grid: Grid, zero: Zero = 0) -> Tensor:
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
    return arithmetic.codes(x, clip, zero, grid.lo, grid.hi, grid.stride)


def fake_quantize(
    x: Tensor, clip: Tensor, grid: Grid, zero: Zero = 0
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


@torch.no_grad()
def rounded_values(
    x: Tensor, clip: Tensor, grid: Grid, zero: Zero = 0
) -> Tensor:
    """Return what :func:`fake_quantize` does, without a gradient."""
    (flat,) = _flat(clip, x)
    y = native.values(flat, clip, zero, grid.lo, grid.hi, grid.stride)
    return _shaped(y, x.shape)


def fake_quantize_sum(
    x: Tensor, y: Tensor, clip: Tensor, limit: int, grid: Grid
) -> Tensor:
    """Add values that are rounded to the sum's step; saturate the sum.

    Args:
        x, y: Real values, equal shapes.
        clip: Clip value of the sum, one number.
        limit: Largest magnitude of a code of ``x`` or ``y``.
        grid: Number system of the sum, of stride 1.

    Returns:
        Tensor: Multiples of the step, differentiable in ``x``, ``y`` and
        ``clip``.
    """
    assert x.shape == y.shape and clip.numel() == 1
    return _FakeQuantizeSum.apply(x, y, clip, limit, grid)


def fake_quantize_normalized(
    weight: Tensor, clip: Tensor, grid: Grid
) -> Tensor:
    """Round weights that are normalised first, in one go.

    Args:
        weight: Weights of a layer.
        clip: Clip value, broadcastable to them.
        grid: The number system.

    Returns:
        Tensor: ``code * step`` in the weights' shape, differentiable in
        ``weight`` and ``clip``; no gradient flows through mean and deviation.
    """
    return _FakeQuantizeNormalized.apply(weight, clip, grid)


def _flat(clip: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return one row of numbers for each tensor, where one clip serves all.

    A compiled function then serves tensors of all shapes.
    """
    if clip.numel() > 1 or not all(x.is_contiguous() for x in tensors):
        return tensors
    return tuple(x.view(-1) for x in tensors)


def _shaped(y: Tensor, shape: torch.Size) -> Tensor:
    # Not a view, so that a ReLU may change it in place.
    return y if y.shape == shape else y.resize_(shape)


def _like(grad: Tensor, x: Tensor) -> Tensor:
    # A convolution's gradient may have another order of axes in memory.
    if grad.stride() == x.stride():
        return grad
    return torch.empty_like(x, dtype=grad.dtype).copy_(grad)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, clip: Tensor, grid: Grid, zero: Zero
    ) -> Tensor:
        ctx.save_for_backward(x, clip)
        ctx.grid, ctx.zero = grid, zero
        return rounded_values(x.detach(), clip.detach(), grid, zero)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, clip = (z.detach() for z in ctx.saved_tensors)
        grid: Grid = ctx.grid
        flat_grad, flat = _flat(clip, _like(grad, x), x)
        grad_x, grad_clip = native.gradients(
            flat_grad,
            flat,
            clip,
            ctx.zero,
            grid.lo,
            grid.hi,
            grid.stride,
        )
        wanted = ctx.needs_input_grad
        return (
            grad_x.view(x.shape) if wanted[0] else None,
            grad_clip.view(clip.shape) if wanted[1] else None,
            None,
            None,
        )


class _FakeQuantizeSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, clip: Tensor, limit: int, grid: Grid
    ) -> Tensor:
        ctx.save_for_backward(x, y, clip)
        ctx.limit, ctx.grid = limit, grid
        left, right = _flat(clip, x.detach(), y.detach())
        total = native.sums(
            left, right, clip.detach(), limit, grid.lo, grid.hi
        )
        return _shaped(total, x.shape)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, y, clip = (z.detach() for z in ctx.saved_tensors)
        flat_grad, left, right = _flat(clip, _like(grad, x), x, y)
        grad_x, grad_y, grad_clip = native.sum_gradients(
            flat_grad,
            left,
            right,
            clip,
            ctx.limit,
            ctx.grid.lo,
            ctx.grid.hi,
        )
        shape = x.shape
        return (
            grad_x.view(shape),
            grad_y.view(shape),
            grad_clip.view(clip.shape),
            None,
            None,
        )


class _FakeQuantizeNormalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, clip: Tensor, grid: Grid) -> Tensor:
        (flat,) = _flat(clip, weight.detach())
        y, mean, std = native.weight_values(
            flat, clip.detach(), grid.lo, grid.hi, grid.stride
        )
        ctx.save_for_backward(weight, mean, std, clip)
        ctx.grid = grid
        return _shaped(y, weight.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, mean, std, clip = (z.detach() for z in ctx.saved_tensors)
        grid: Grid = ctx.grid
        flat_grad, flat = _flat(clip, _like(grad, weight), weight)
        grad_weight, grad_clip = native.weight_gradients(
            flat_grad,
            flat,
            mean,
            std,
            clip,
            grid.lo,
            grid.hi,
            grid.stride,
        )
        shape = weight.shape
        return grad_weight.view(shape), grad_clip.view(clip.shape), None
