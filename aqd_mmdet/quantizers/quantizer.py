"""Quantisers as modules: a grid and its learned clip value."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fake_quantize import fake_quantize, quantize, round_half_up, step_size
from .grid import Grid


class Quantizer(nn.Module):
    """Rounds a tensor to a grid with a learned clip value (AQD, section 3.1).

    Args:
        grid: The number system.
        shape: Shape of the clip value; ``()`` for one per tensor, or such
            that it broadcasts over the values for one per channel.

    Attributes:
        clip: Learned clip value, used through its absolute value. The
            published start, 1, stands until calibration or a checkpoint
            sets it.
        started: Whether that has happened, kept in the state dict.
        observer: While set, values pass unchanged and are shown to it.
    """

    started: Tensor

    def __init__(self, grid: Grid, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.grid = grid
        self.clip = nn.Parameter(torch.ones(shape))
        self.register_buffer('started', torch.tensor(False))
        self.observer: Callable[[Tensor], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the grid's values, same shape and type."""
        if self.observer is not None:
            self.observer(x)
            return x
        return self.rounded(x)

    def rounded(self, x: Tensor) -> Tensor:
        """Return what :meth:`forward` rounds ``x`` to."""
        return fake_quantize(x, self.clip, self.grid)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return the int32 codes that :meth:`forward` rounds ``x`` to."""
        return quantize(x, self.clip, self.grid).to(torch.int32)

    @property
    def step(self) -> Tensor:
        """Real value of one unit of code, in the clip value's shape."""
        return step_size(self.clip.detach(), self.grid)

    @torch.no_grad()
    def start(self, clip: Tensor) -> None:
        """Set the clip value that training starts from."""
        self.clip.copy_(clip.expand_as(self.clip))
        self.started.fill_(True)

    @torch.no_grad()
    def clipped_share(self, x: Tensor) -> Tensor:
        """Return the share of ``x``'s magnitudes that lie above the clip."""
        return (x.abs() > self.clip.abs()).float().mean()

    def extra_repr(self) -> str:
        grid = self.grid
        return f'bits={grid.bits}, codes={grid.lo}..{grid.hi}'


class ImageQuantizer(nn.Module):
    """Stands where a stem reads raw pixels minus an integer mean.

    The pixels are codes already, of step 1; what is left to do is to round
    what augmentation made of them.
    """

    # A pixel 0..255 minus a mean 0..255.
    grid = Grid(bits=9, lo=-255, hi=255)

    def forward(self, x: Tensor) -> Tensor:
        """Return integral pixel values; no gradient flows to the image."""
        return round_half_up(x.detach().clamp(self.grid.lo, self.grid.hi))

    def rounded(self, x: Tensor) -> Tensor:
        """Return integral pixel values."""
        return self.forward(x)

    def codes(self, x: Tensor) -> Tensor:
        """Return the int32 codes of pixels minus mean."""
        return self.forward(x).to(torch.int32)

    @property
    def step(self) -> Tensor:
        """Real value of one unit of code: 1."""
        return torch.ones(())
