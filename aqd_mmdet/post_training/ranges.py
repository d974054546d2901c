"""Ranges of quantisers from samples of what they round."""

import torch
from torch import Tensor

from ..errors import UserError
from ..layers.activation import FixedPointActivation
from ..layers.weighted import QuantConv2d, QuantizedLayer
from ..quantizers.arithmetic import MIN_CLIP
from ..quantizers.fake_quantize import fake_quantize
from ..quantizers.grid import Grid
from ..quantizers.quantizer import Quantizer

# Candidates for the ends of a range, as shares of the extremes.
SHARES = torch.linspace(1, 0.2, 33)
LOW_SHARES = (1.0, 0.8, 0.6, 0.4)
# Halvings of a fixed-point range that are tried.
OCTAVES = 6
# Exponents of ranges that are tried, and the smallest of these.
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
MIN_SPAN = 2.0**-10


def start_weights(layer: QuantizedLayer) -> None:
    """Start the weights' quantiser of a layer, channel by channel.

    Args:
        layer: The layer; the quantiser of its input is started.
    """
    quantizer = layer.weight_quantizer
    rows = layer.scaled_weight().detach().flatten(1)
    if quantizer.clip.numel() == 1:
        rows = rows.reshape(1, -1)
    clip, _ = best_range(rows, torch.ones(rows.shape[1]), quantizer.grid)
    quantizer.start(clip.view_as(quantizer.clip))


def start_inputs(quantizer: Quantizer, rows: Tensor, weights: Tensor) -> None:
    """Start the quantiser of a layer's input.

    Args:
        quantizer: The quantiser.
        rows: Values, (C, N).
        weights: Of each of the N.
    """
    if not torch.isfinite(rows).all():
        raise UserError('a value is not finite: the checkpoint is damaged')
    if isinstance(quantizer, FixedPointActivation):
        quantizer.start(fixed_point_range(quantizer, rows, weights))
    elif quantizer.grid.bits > 8:
        # There are codes for all values.
        quantizer.start(rows.abs().amax())
    else:
        quantizer.start(*range_of(quantizer, rows, weights))


def range_of(
    quantizer: Quantizer, rows: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return clip value and zero point for a sample, as `start` takes them.

    Args:
        quantizer: The quantiser.
        rows, weights: As of :func:`start_inputs`.
    """
    asymmetric = isinstance(quantizer.zero, Tensor)
    clip, zero = best_range(rows, weights, quantizer.grid, asymmetric)
    clip, zero = (x.view_as(quantizer.clip) for x in (clip, zero))
    device = quantizer.clip.device
    return clip.to(device), zero.to(device) if asymmetric else None


def best_range(
    rows: Tensor, weights: Tensor, grid: Grid, asymmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the clip values of the least squared error, and zero points.

    Args:
        rows: Values, (C, N).
        weights: Of each of the N in the error.
        grid: The number system.
        asymmetric: Whether there is a zero point.

    Returns:
        tuple: Both (C, 1); zero points are 0 unless asymmetric.
    """
    tiny = 1e-6  # of a channel that is 0 throughout
    low = rows.amin(1, keepdim=True).clamp_max(0)
    high = rows.amax(1, keepdim=True).clamp_min(tiny)
    largest = rows.abs().amax(1, keepdim=True).clamp_min(tiny)
    best = torch.full_like(high, torch.inf)
    clip, zero = torch.ones_like(high), torch.zeros_like(high)
    for low_share in LOW_SHARES if asymmetric else (1.0,):
        for share in SHARES:
            if asymmetric:
                top, bottom = high * share, low * low_share
                step = (top - bottom) / (grid.hi - grid.lo)
                point = grid.lo - torch.floor(bottom / step + 0.5)
                point = point.clamp_max(grid.hi - 1)
                end = (grid.hi - point) * step
            else:
                point, end = torch.zeros_like(high), largest * share
            error = fake_quantize(rows, end, grid, point) - rows
            error = (error.square_() * weights).sum(1, keepdim=True)
            better = error < best
            best = torch.where(better, error, best)
            clip = torch.where(better, end, clip)
            zero = torch.where(better, point, zero)
    return clip, zero


def fixed_point_range(
    layer: FixedPointActivation, rows: Tensor, weights: Tensor
) -> Tensor:
    """Return magnitudes for the least squared error of an activation.

    What SiLU is given far below zero makes nothing, so that the range need
    not hold it.

    Args:
        layer: The activation.
        rows, weights: As of :func:`start_inputs`.

    Returns:
        Tensor: (1, C, 1, 1), or () for one row.
    """
    largest = rows.abs().amax(1, keepdim=True).clamp_min(1e-6)
    best = torch.full_like(largest, torch.inf)
    clip = largest
    goal = layer.function(rows)
    for octave in range(OCTAVES):
        # No layer has a smaller one.
        end = (largest * 0.5**octave).clamp_min(MIN_CLIP)
        exact = torch.exp2((end / layer.grid.hi).log2().ceil())
        rounded = fake_quantize(rows, exact * layer.grid.hi, layer.grid)
        error = (layer.look_up(rounded, exact) - goal).square() * weights
        error = error.sum(1, keepdim=True)
        clip = torch.where(error < best, end, clip)
        best = torch.minimum(error, best)
    return clip.reshape(()) if len(clip) == 1 else clip.view(1, -1, 1, 1)


def is_balanced(layer: QuantizedLayer) -> bool:
    """Say whether the channels of a layer's input have steps of their own
    that its weights make up for."""
    quantizer = layer.input_quantizer
    return (
        isinstance(layer, QuantConv2d)
        and layer.groups == 1
        and isinstance(quantizer, Quantizer)
        and quantizer.clip.numel() > 1
    )


def balanced_range(
    layer: QuantizedLayer, rows: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return clip values and zero points of channels that are summed.

    Large steps of some channels are paid for by the rounding of the weights.
    Steps are powers of the channels' ranges; the exponent is that of the
    least noise in the layer's outputs (Xiao et al., "SmoothQuant", section 4,
    where it is fixed).

    Args:
        layer: Of :func:`is_balanced`.
        rows, weights: As of :func:`start_inputs`; (C, N).

    Returns:
        tuple: As :meth:`Quantizer.start` takes them, (1, C, 1, 1).
    """
    quantizer = layer.input_quantizer
    assert isinstance(quantizer, Quantizer)
    grid = quantizer.grid
    low = rows.amin(1, keepdim=True).clamp_max(0)
    high = rows.amax(1, keepdim=True).clamp_min(1e-6)
    power = (rows.square() * weights).sum(1) / weights.sum()  # (C,)
    ratio, importance = _balance(layer, (high - low).squeeze(1), power)
    best, result = torch.inf, (high, low)
    for share in SHARES:
        step = ratio[:, None] * (high - low).amax() * share / (grid.levels - 1)
        zero = grid.lo - torch.floor(low / step + 0.5)
        zero = zero.clamp(grid.lo, grid.hi - 1)
        clip, zero = _cut_off(step, zero, low, high.amax(), grid)
        error = (fake_quantize(rows, clip, grid, zero) - rows).square()
        total = float(((error * weights).sum(1) * importance).sum())
        if total < best:
            best, result = total, (clip, zero)
    clip, zero = (x.view(1, -1, 1, 1).to(quantizer.clip) for x in result)
    return clip, zero


def _cut_off(
    step: Tensor, zero: Tensor, low: Tensor, top: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Return clip values that nothing is larger than, and zero points.

    Args:
        step, zero: Of the channels, (C, 1).
        low: The least of their values, at most 0.
        top: The largest value of all channels, a ReLU6's limit for one.
        grid: The number system.
    """
    # A smaller clip value makes a smaller step. Where that would cut off what
    # is below 0, codes for larger values become codes below 0 instead.
    far = (low < 0) & (top < 0.9 * (grid.hi - zero) * step)
    codes = torch.floor(top / step + 0.5).clamp_min(1)
    zero = torch.where(far, grid.hi - codes, zero)
    clip = (grid.hi - zero) * step
    return torch.where(far, clip, clip.minimum(top)), zero


def _balance(
    layer: QuantizedLayer, spans: Tensor, power: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how large channels' steps are, and how much their noise matters.

    Args:
        layer: As of :func:`balanced_range`.
        spans: Of the channels' values, (C,).
        power: Their mean squares, (C,).

    Returns:
        tuple: Steps as shares of the largest, and weights of squared errors,
        (C,) both.
    """
    kernel = layer.normalized_weight().detach().flatten(2).cpu()  # (O, C, K)
    # Of an output, per unit of noise in each channel of the input.
    gain = kernel.square().sum(2)  # (O, C)
    signal = (gain @ power).clamp_min(1e-12)  # (O,)
    inputs = layer.input_quantizer
    assert isinstance(inputs, Quantizer)
    step = spans.amax() / (inputs.grid.levels - 1)
    levels = layer.weight_quantizer.grid.levels - 1
    taps, largest = kernel.shape[2], kernel.abs().amax(2)

    def noise(ratio: Tensor) -> float:
        of_input = gain @ (ratio * step).square() / 12
        of_weight = (2 * (largest * ratio).amax(1) / levels).square() / 12
        of_weights = of_weight * taps * (power / ratio**2).sum()
        return float(((of_input + of_weights) / signal).mean())

    shares = (spans / spans.amax()).clamp_min(MIN_SPAN)
    ratio = min((shares**exponent for exponent in EXPONENTS), key=noise)
    return ratio, (gain / signal[:, None]).sum(0)
