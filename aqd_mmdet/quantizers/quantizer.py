"""Quantisers as modules: a grid and its learned clip value."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..errors import UserError
from .fake_quantize import (
    fake_quantize,
    quantize,
    round_half_up,
    rounded_values,
    step_size,
)
from .grid import Grid


class Rounding:
    """One rounding of a quantiser, to be done or replaced by a hook.

    Args:
        quantizer: Whose clip value it is.
        clip: Largest real value of the grid, broadcastable to what is
            rounded.
        grid: The number system.
        zero: Zero point: the code of 0, of the clip value's shape.
    """

    # Whether values below the grid are meant to be cut off.
    cuts_negatives = False

    def __init__(
        self,
        quantizer: 'RoundingModule',
        clip: Tensor,
        grid: Grid,
        zero: Tensor | int = 0,
    ) -> None:
        self.quantizer = quantizer
        self.clip = clip
        self.grid = grid
        self.zero = zero

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded, in its shape and type."""
        self.quantizer.need_start()
        return fake_quantize(x, self.clip, self.grid, self.zero)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return the int32 codes that ``x`` is rounded to."""
        self.quantizer.need_start()
        return quantize(x, self.clip, self.grid, self.zero).to(torch.int32)

    def values(self, codes: Tensor) -> Tensor:
        """Return the real values that codes stand for."""
        return (codes - self.zero) * self.step

    @property
    def step(self) -> Tensor:
        """Real value of one unit of code."""
        return self.quantizer.step


class PixelRounding(Rounding):
    """Rounds to whole pixels, without a gradient."""

    def __call__(self, x: Tensor) -> Tensor:
        return round_half_up(x.detach().clamp(self.grid.lo, self.grid.hi))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return self(x).to(torch.int32)


# Given values and what would round them, returns what goes on in their place.
RoundingHook = Callable[[Tensor, Rounding], Tensor]


class RoundingModule(nn.Module):
    """What rounds values, and lets a hook do it instead.

    Attributes:
        grid: The number system.
        hook: While set, it is called at each rounding.
    """

    grid: Grid
    hook: RoundingHook | None = None

    def rounded(self, x: Tensor, rounding: Rounding) -> Tensor:
        """Return what goes on in the place of ``x``."""
        return rounding(x) if self.hook is None else self.hook(x, rounding)

    def recomputed(
        self, rounded: Tensor, x: Tensor
    ) -> AbstractContextManager[Any]:
        """Let operators keep ``x`` in place of ``rounded``.

        Args:
            rounded: What this module made of ``x``.
            x: What is kept anyway, by what made it. Gradients of the
                operators read what it is rounded to again.
        """
        return nullcontext()

    @property
    def step(self) -> Tensor:
        """Real value of one unit of code."""
        raise NotImplementedError

    def need_start(self) -> None:
        """Raise if nothing can be rounded yet."""
        raise NotImplementedError


class Quantizer(RoundingModule):
    """A grid with a learned clip value (AQD, section 3.1).

    The state dict says which grid the clip value was learned for. One of
    another grid, or for other channels, is not taken over: the quantiser is
    then not started, and has to be calibrated.

    Args:
        grid: The number system.
        shape: Shape of the clip value; ``()`` for one per tensor, or such
            that it broadcasts over the values for one per channel.
        normalized: Whether what it rounds are weights that were normalised.
        asymmetric: Whether it has a zero point, which calibration sets, so
            that all codes lie between the least and the largest value.

    Attributes:
        clip: Learned clip value, used through its absolute value.
        started: Whether calibration or a checkpoint has set it, kept in the
            state dict. Until then nothing can be rounded.
        format: The grid as numbers, int32 ``(lo, hi, stride, normalized)``,
            kept in the state dict.
        zero: The zero point where it has one, float32 of whole numbers in the
            clip value's shape, kept in the state dict.
    """

    started: Tensor
    format: Tensor
    zero: Tensor | int

    def __init__(
        self,
        grid: Grid,
        shape: tuple[int, ...] = (),
        normalized: bool = False,
        asymmetric: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.clip = nn.Parameter(torch.ones(shape))
        self.register_buffer('started', torch.tensor(False))
        numbers = [grid.lo, grid.hi, grid.stride, int(normalized)]
        if asymmetric:
            # One number more, so that no other grid's state fits.
            numbers.append(1)
            self.register_buffer('zero', torch.zeros(shape))
        else:
            self.zero = 0
        self.register_buffer(
            'format', torch.tensor(numbers, dtype=torch.int32)
        )
        # What `started` was when it was last looked at: on a GPU each look
        # waits for all that was launched before.
        self._is_started = False

    def _rounding(self) -> Rounding:
        return Rounding(self, self.clip, self.grid, self.zero)

    @property
    def step(self) -> Tensor:
        """Real value of one unit of code, in the clip value's shape."""
        self.need_start()
        return step_size(self.clip.detach(), self.grid, self.zero)

    def need_start(self) -> None:
        """Raise if there is no clip value yet.

        Raises:
            UserError: With what sets it.
        """
        if self._is_started:
            return
        self._is_started = bool(self.started)
        if not self._is_started:
            raise UserError(
                f'a quantiser of {self.grid.bits} bits has no clip value yet: '
                'training needs aqd_mmdet.CalibrationHook among its hooks '
                '(configs/_base_/aqd_hooks.py), and evaluation a checkpoint '
                'of the same widths'
            )

    @torch.no_grad()
    def start(self, clip: Tensor, zero: Tensor | None = None) -> None:
        """Set the clip value that training starts from, and a zero point."""
        self.clip.copy_(clip.expand_as(self.clip))
        if zero is not None:
            assert isinstance(self.zero, Tensor)
            self.zero.copy_(zero.expand_as(self.zero))
        self.started.fill_(True)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        self._is_started = False
        saved_clip = state_dict.get(f'{prefix}clip')
        saved_format = state_dict.get(f'{prefix}format')
        is_of_other_channels = (
            saved_clip is not None and saved_clip.shape != self.clip.shape
        )
        is_of_another_grid = saved_format is not None and not torch.equal(
            saved_format.to(self.format), self.format
        )
        if is_of_another_grid or is_of_other_channels:
            # A clip value of 8 bits lies where one of 2 would cut off most.
            state_dict[f'{prefix}format'] = self.format
            state_dict[f'{prefix}clip'] = self.clip.detach()
            state_dict[f'{prefix}started'] = torch.zeros_like(self.started)
            state_dict.pop(f'{prefix}zero', None)
            if isinstance(self.zero, Tensor):
                state_dict[f'{prefix}zero'] = self.zero
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def clipped_share(self, x: Tensor) -> Tensor:
        """Return the share of ``x`` that lies beyond the grid's ends.

        An unsigned grid has one end: what is below zero is cut by design.
        """
        step = step_size(self.clip, self.grid, self.zero)
        low, high = (
            (end - self.zero) * step for end in (self.grid.lo, self.grid.hi)
        )
        beyond = (x > high) | ((x < low) & (low < 0))
        return beyond.float().mean()

    def extra_repr(self) -> str:
        grid = self.grid
        return f'bits={grid.bits}, codes={grid.lo}..{grid.hi}'


class TensorQuantizer(Quantizer):
    """Rounds one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the grid's values, same shape and type.

        Raises:
            UserError: If it has no clip value yet.
        """
        return self.rounded(x, self._rounding())

    def recomputed(
        self, rounded: Tensor, x: Tensor
    ) -> AbstractContextManager[Any]:
        if (
            self.hook is not None
            or not torch.is_grad_enabled()
            or torch.compiler.is_compiling()
        ):
            return nullcontext()
        # Nothing here may refer to `rounded`: hooks live as long as what an
        # operator keeps.
        place, shape, version = rounded.data_ptr(), rounded.shape, x._version
        fixed, clip = x.detach(), self.clip.detach()

        def pack(kept: Tensor) -> Tensor | None:
            is_it = kept.data_ptr() == place and kept.shape == shape
            return None if is_it and kept.dtype == fixed.dtype else kept

        def unpack(kept: Tensor | None) -> Tensor:
            if kept is not None:
                return kept
            if x._version != version:
                raise RuntimeError(
                    'the input of a quantised layer was changed in place '
                    'before its gradient was computed'
                )
            return rounded_values(fixed, clip, self.grid, self.zero)

        return saved_tensors_hooks(pack, unpack)

    def output_shape(self, x: Sequence[int]) -> Sequence[int]:
        """Return the shape of the output for that of the input."""
        return x

    def codes(self, x: Tensor) -> Tensor:
        """Return the int32 codes that :meth:`forward` rounds ``x`` to."""
        return self._rounding().codes(x)


class WeightQuantizer(TensorQuantizer):
    """Rounds the weights of a layer."""


class ImageQuantizer(RoundingModule):
    """Stands where a stem reads raw pixels minus an integer mean.

    The pixels are codes already, of step 1; what is left to do is to round
    what augmentation made of them.
    """

    # A pixel 0..255 minus a mean 0..255.
    grid = Grid(bits=9, lo=-255, hi=255)

    def forward(self, x: Tensor) -> Tensor:
        """Return integral pixel values; no gradient flows to the image."""
        return self.rounded(x, PixelRounding(self, self.step, self.grid))

    def codes(self, x: Tensor) -> Tensor:
        """Return the int32 codes of pixels minus mean."""
        return PixelRounding(self, self.step, self.grid).codes(x)

    @property
    def step(self) -> Tensor:
        """Real value of one unit of code: 1."""
        return torch.ones(())

    def need_start(self) -> None:
        """Do nothing: pixels need no clip value."""
