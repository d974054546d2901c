"""Where training's clip values start from."""

from typing import Protocol

import torch
from torch import Tensor

from ..errors import UserError, nearest
from ..registry import STARTS
from .fake_quantize import quantize, step_size
from .grid import Grid

# Candidates for the clip value, as shares of the largest magnitude. 2 bits
# want a third of it, 8 bits nearly all; 64 of them are finer than what
# training moves in its first hundred steps.
CANDIDATES = 64
# Enough to place a 2-bit clip value within 1 %, small enough that a layer's
# search takes milliseconds.
MAX_SAMPLES = 2**14


def sample(count: int) -> Tensor:
    """Return which of so many values are looked at, int64.

    Drawn at random, the same in every run: equal distances would pick the
    same few columns of each map wherever they divide its width, as they do
    in maps whose sides are powers of two, and a border would pass for all.

    Args:
        count: Number of values.
    """
    if count <= MAX_SAMPLES:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(count)
    return torch.randint(count, (MAX_SAMPLES,), generator=generator)


class Start(Protocol):
    """A rule that picks a clip value from a sample of what is quantised."""

    def __call__(self, x: Tensor, grid: Grid, normalized: bool) -> Tensor:
        """Return a scalar from values ``x``; ``normalized`` says that they
        are normalised weights, or activations behind a norm."""


@STARTS.register_module(name='mse')
def mse_clip(x: Tensor, grid: Grid, normalized: bool = False) -> Tensor:
    """Return the clip value with the least squared rounding error.

    Args:
        x: Values to be quantised, any shape.
        grid: Their number system.
        normalized: Not used: the values say it all.

    Returns:
        Tensor: A float32 scalar.
    """
    x = x.detach().flatten().float()
    x = x[sample(x.numel()).to(x.device)]
    largest = x.abs().amax()
    shares = torch.linspace(1 / CANDIDATES, 1, CANDIDATES, device=x.device)
    clips = (largest * shares)[:, None]
    values = quantize(x[None], clips, grid) * step_size(clips, grid)
    errors = (values - x[None]).square().sum(dim=1)
    return clips[errors.argmin(), 0]


@STARTS.register_module(name='paper')
def paper_clip(x: Tensor, grid: Grid, normalized: bool = False) -> Tensor:
    """Return the published start: 1 for normalised values, else 0.8 max|x|.

    Args:
        x: Values to be quantised, any shape.
        grid: Not used: the published rule is the same for every width.
        normalized: Whether a norm made the values.

    Returns:
        Tensor: A float32 scalar.
    """
    if normalized:
        return torch.ones((), device=x.device)
    return 0.8 * x.detach().abs().amax().float()


@STARTS.register_module(name='lsq')
def lsq_clip(x: Tensor, grid: Grid, normalized: bool = False) -> Tensor:
    """Return the start of LSQ: values are 2 mean|x| / sqrt(n) apart.

    The largest one is n such distances from zero (Esser et al., "Learned Step
    Size Quantization", section 2.1).

    Args:
        x: Values to be quantised, any shape.
        grid: Their number system.
        normalized: Not used: the rule is the same for all.

    Returns:
        Tensor: A float32 scalar.
    """
    distances = grid.hi / grid.stride
    return 2 * x.detach().abs().mean().float() * distances**0.5


def start_clip(name: str) -> Start:
    """Return the registered start of a name.

    Raises:
        UserError: If no start has that name.
    """
    start = STARTS.get(name)
    if start is None:
        raise UserError(
            f'no start of clip values is called {name!r} '
            f'({nearest(str(name), STARTS.module_dict)})'
        )
    return start
