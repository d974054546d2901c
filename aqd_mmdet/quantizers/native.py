"""The arithmetic of quantisers on a CPU: one pass over memory each.

``native.cpp`` does what the functions of :mod:`.arithmetic` do, to the same
values, for float32. Whatever it does not take, these do: other types and
devices, clip values for each channel, and all where it is not built.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..runtime import shared_library
from . import arithmetic
from .arithmetic import Zero


class _Grid(ctypes.Structure):
    """AqdGrid."""

    _fields_ = [
        (name, ctypes.c_float)
        for name in ('zero', 'low', 'high', 'stride', 'mean', 'deviation')
    ]


_FLOAT, _POINTER = ctypes.c_float, ctypes.c_void_p
_COUNTS = (ctypes.c_int64, ctypes.c_int)  # of numbers, of threads


@cache
def library() -> Any:
    """Return the compiled functions, or None where they are not built."""
    loaded = shared_library.load(Path(__file__).with_name('_native'))
    if loaded is None:
        return None
    for name, numbers, pointers in (
        ('round', 1, 2),
        ('round_gradients', 1, 3),
        ('add', 3, 3),
        ('add_gradients', 3, 5),
    ):
        function = getattr(loaded, f'aqd_{name}')
        function.restype = _FLOAT if 'gradients' in name else None
        function.argtypes = [
            ctypes.POINTER(_Grid),
            *[_FLOAT] * numbers,
            *[_POINTER] * pointers,
            *_COUNTS,
        ]
    return loaded


def values(
    x: Tensor, clip: Tensor, zero: Zero, lo: int, hi: int, stride: int
) -> Tensor:
    """Do what :func:`.arithmetic.values` does."""
    if not _takes(clip, x):
        return arithmetic.run.values(x, clip, zero, lo, hi, stride)
    grid = _Grid(float(zero), lo, hi, stride, 0, 1)
    return _rounded(grid, clip, x)


def gradients(
    grad: Tensor,
    x: Tensor,
    clip: Tensor,
    zero: Zero,
    lo: int,
    hi: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Do what :func:`.arithmetic.gradients` does."""
    if not _takes(clip, grad, x):
        return arithmetic.run.gradients(grad, x, clip, zero, lo, hi, stride)
    grid = _Grid(float(zero), lo, hi, stride, 0, 1)
    return _gradients(grid, clip, grad, x)


def sums(
    x: Tensor, y: Tensor, clip: Tensor, limit: int, lo: int, hi: int
) -> Tensor:
    """Do what :func:`.arithmetic.sums` does."""
    if not _takes(clip, x, y):
        return arithmetic.run.sums(x, y, clip, limit, lo, hi)
    out = torch.empty_like(x)
    _call(
        'add', _Grid(0, lo, hi, 1, 0, 1), (clip, limit, limit / hi), x, y, out
    )
    return out


def sum_gradients(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    clip: Tensor,
    limit: int,
    lo: int,
    hi: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what :func:`.arithmetic.sum_gradients` does."""
    if not _takes(clip, grad, x, y):
        return arithmetic.run.sum_gradients(grad, x, y, clip, limit, lo, hi)
    grad_x, grad_y = torch.empty_like(x), torch.empty_like(y)
    share = _call(
        'add_gradients',
        _Grid(0, lo, hi, 1, 0, 1),
        (clip, limit, limit / hi),
        *(grad, x, y, grad_x, grad_y),
    )
    return grad_x, grad_y, clip.new_tensor(share)


def weight_values(
    weight: Tensor, clip: Tensor, lo: int, hi: int, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what :func:`.arithmetic.weight_values` does."""
    if not _takes(clip, weight):
        return arithmetic.run.weight_values(weight, clip, lo, hi, stride)
    mean, std = arithmetic.statistics(weight)
    grid = _Grid(0, lo, hi, stride, float(mean), float(std))
    return _rounded(grid, clip, weight), mean, std


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
    """Do what :func:`.arithmetic.weight_gradients` does."""
    if not _takes(clip, grad, weight):
        return arithmetic.run.weight_gradients(
            grad, weight, mean, std, clip, lo, hi, stride
        )
    grid = _Grid(0, lo, hi, stride, float(mean), float(std))
    return _gradients(grid, clip, grad, weight)


def _takes(clip: Tensor, *tensors: Tensor) -> bool:
    """Return whether the compiled functions take tensors."""
    return (
        not torch.compiler.is_compiling()
        and library() is not None
        and clip.numel() == 1
        and all(
            # Exact: others, as those of a tracer, may have no memory.
            type(x) is Tensor
            and x.dtype == torch.float32
            and x.device.type == 'cpu'
            and x.is_contiguous()
            for x in (clip, *tensors)
        )
    )


def _rounded(grid: _Grid, clip: Tensor, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    _call('round', grid, (clip,), x, y)
    return y


def _gradients(
    grid: _Grid, clip: Tensor, grad: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    grad_x = torch.empty_like(x)
    share = _call('round_gradients', grid, (clip,), grad, x, grad_x)
    return grad_x, clip.new_tensor(share)


def _call(
    name: str,
    grid: _Grid,
    numbers: tuple[Tensor | float, ...],
    *tensors: Tensor,
) -> float:
    """Call a compiled function for tensors of equal shape."""
    return getattr(library(), f'aqd_{name}')(
        grid,
        *map(float, numbers),
        *(x.data_ptr() for x in tensors),
        tensors[0].numel(),
        torch.get_num_threads(),
    )
