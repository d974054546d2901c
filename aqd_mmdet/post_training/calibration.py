"""Ranges of a detector's quantisers, from what unlabelled pictures make."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from ..errors import UserError
from ..layers.activation import FixedPointActivation
from ..layers.weighted import QuantConv2d, QuantizedLayer
from ..models.quantized_detector import quantized_layers
from ..patches import patched
from ..quantizers.fake_quantize import fake_quantize, step_size
from ..quantizers.grid import Grid
from ..quantizers.quantizer import (
    Quantizer,
    Rounding,
    RoundingHook,
    RoundingModule,
    WeightQuantizer,
)

# Values of a tensor, or of each of its channels, that are kept of all
# pictures: enough to place an end of 8 bits within a code.
TENSOR_SAMPLES, CHANNEL_SAMPLES = 2**17, 2**11
# Of each picture the largest and smallest values are kept too. They are what
# objects make; a sample alone would miss them.
EXTREMES = 8
# Candidates for the ends of a range, as shares of the extremes.
SHARES = torch.linspace(1, 0.2, 33)
LOW_SHARES = (1.0, 0.8, 0.6, 0.4)
# Halvings of a fixed-point range that are tried.
OCTAVES = 6
# Exponents of ranges that are tried, and the smallest of these.
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
MIN_SPAN = 2.0**-10


@dataclass(frozen=True)
class RangeReport:
    """How well a quantiser fits what it rounds.

    Attributes:
        name: Of the layer.
        bits: Of its codes.
        signal_to_noise: Of the rounded values, in decibels; of an activation
            those of its function.
        clipped: Share of values beyond the range.
    """

    name: str
    bits: int
    signal_to_noise: float
    clipped: float


class Observer:
    """Keeps a weighted sample of what a quantiser is given.

    Args:
        quantizer: The quantiser.
        pictures: How many pictures it will see.
    """

    def __init__(self, quantizer: Quantizer, pictures: int) -> None:
        self.per_channel = quantizer.clip.numel() > 1 or isinstance(
            quantizer, FixedPointActivation
        )
        kept = CHANNEL_SAMPLES if self.per_channel else TENSOR_SAMPLES
        self.kept = max(1, kept // pictures)
        self.generator = torch.Generator().manual_seed(0)
        self.parts: list[Tensor] = []
        self.weights: list[Tensor] = []

    def __call__(self, x: Tensor, rounding: Rounding) -> Tensor:
        """Observe ``x`` and return it as it is."""
        if not x.numel():  # of a second stage without regions
            return x
        values = x.detach().float().cpu()
        if self.per_channel:
            rows = values.transpose(0, 1).flatten(1)
        else:
            rows = values.reshape(1, -1)
        count = rows.shape[1]
        if count <= self.kept:
            self._keep(rows, 1)
            return x
        places = torch.randint(count, (self.kept,), generator=self.generator)
        self._keep(rows[:, places], count / self.kept)
        extremes = min(EXTREMES, count)
        self._keep(rows.topk(extremes, 1).values, 1)
        self._keep(rows.topk(extremes, 1, largest=False).values, 1)
        return x

    def _keep(self, rows: Tensor, weight: float) -> None:
        self.parts.append(rows)
        self.weights.append(torch.full((rows.shape[1],), float(weight)))

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return values (C, N), C being 1 for a tensor, and weights (N,)."""
        if len({len(rows) for rows in self.parts}) == 1:
            return torch.cat(self.parts, 1), torch.cat(self.weights)
        # A layer that maps of several numbers of channels go through.
        weights = [
            weight.repeat(len(rows))
            for rows, weight in zip(self.parts, self.weights, strict=True)
        ]
        return torch.cat([x.reshape(1, -1) for x in self.parts], 1), torch.cat(
            weights
        )


@torch.no_grad()
def calibrate(
    detector: Any, pictures: Iterable[Tensor], count: int
) -> tuple[RangeReport, ...]:
    """Start all quantisers of a detector; return how well those of inputs fit.

    Args:
        detector: The quantised detector.
        pictures: Of the network's size, float (1, 3, H, W), as its
            preprocessor makes them.
        count: How many they are.

    Raises:
        UserError: If a quantiser saw no value.
    """
    with observed(detector, count) as observers:
        for picture in pictures:
            run(detector, picture)
    unseen = [name for name, (_, o) in observers.items() if not o.parts]
    if unseen:
        raise UserError(
            f'{len(unseen)} layers were given no values, such as {unseen[0]}: '
            'either nothing uses them, and a last rule of the recipe leaves '
            f"them alone, dict(modules='{unseen[0]}', float=True); or no "
            'picture has an object: give others by --images'
        )
    layers = quantized_layers(detector)
    reports = []
    for name, (quantizer, observer) in observers.items():
        sample = observer.sample()
        layer = layers.get(name)
        if layer is not None and is_balanced(layer):
            quantizer.start(*balanced_range(layer, *sample))
        else:
            start_inputs(quantizer, *sample)
        reports.append(_report(name, quantizer, *sample))
    for layer in layers.values():
        start_weights(layer)
    return tuple(reports)


def _report(
    name: str, quantizer: Quantizer, rows: Tensor, weights: Tensor
) -> RangeReport:
    grid, zero = quantizer.grid, quantizer.zero
    clip = quantizer.clip.detach().reshape(-1, 1).cpu()
    if isinstance(zero, Tensor):
        zero = zero.reshape(-1, 1).cpu()
    step = step_size(clip, grid, zero)
    rounded, exact = fake_quantize(rows, clip, grid, zero), rows
    if isinstance(quantizer, FixedPointActivation):
        # What it cuts off where the function is flat is no noise.
        rounded, exact = (quantizer.function(x) for x in (rounded, exact))
    noise = (rounded - exact).square() * weights
    signal = exact.square() * weights
    codes = rows / step + zero
    outside = (codes < grid.lo - 0.5) | (codes > grid.hi + 0.5)
    share = (outside * weights).sum() / (weights.sum() * len(rows))
    ratio = signal.sum() / noise.sum().clamp_min(1e-30)
    return RangeReport(
        name,
        grid.bits,
        10 * float(ratio.clamp_min(1e-30).log10()),
        float(share),
    )


def run(detector: Any, picture: Tensor) -> Any:
    """Run a detector on a picture, second stages included.

    Args:
        detector: Any detector of mmdet.
        picture: As of :func:`calibrate`.

    Returns:
        Its maps, as the detector nests them.
    """
    size = tuple(picture.shape[2:])
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0)
        )
    )
    return detector(picture, [sample], mode='tensor')


@contextmanager
def observed(
    detector: nn.Module, count: int
) -> Iterator[dict[str, tuple[Quantizer, Observer]]]:
    """Let a detector run in float, and observe what is rounded in it."""
    observers: dict[str, tuple[Quantizer, Observer]] = {}
    with ExitStack() as stack:
        for name, module in detector.named_modules():
            hook: RoundingHook = unchanged
            if isinstance(module, Quantizer) and not isinstance(
                module, WeightQuantizer
            ):
                hook = Observer(module, count)
                where = name.removesuffix('.input_quantizer')
                observers[where] = module, hook
            elif not isinstance(module, RoundingModule):
                continue
            stack.enter_context(patched(module, hook=hook))
        yield observers


@contextmanager
def every_rounding(module: nn.Module, hook: RoundingHook) -> Iterator[None]:
    """Let a hook do all roundings of a module and of those in it."""
    with ExitStack() as stack:
        for child in module.modules():
            if isinstance(child, RoundingModule):
                stack.enter_context(patched(child, hook=hook))
        yield


def unchanged(x: Tensor, rounding: Rounding) -> Tensor:
    """Round nothing."""
    return x


def start_weights(layer: QuantizedLayer) -> None:
    """Start the weights' quantiser of a layer, channel by channel."""
    quantizer = layer.weight_quantizer
    weight, ratio = layer.normalized_weight().detach(), layer.input_ratio()
    if ratio is not None:
        weight = weight * ratio
    rows = weight.flatten(1)
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
        end = largest * 0.5**octave
        exact = torch.exp2((end / layer.grid.hi).log2().ceil())
        rounded = fake_quantize(rows, exact * layer.grid.hi, layer.grid)
        error = (layer.function(rounded) - goal).square() * weights
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
    span = (high - low) / (high - low).amax()
    power = (rows.square() * weights).sum(1) / weights.sum()  # (C,)
    kernel = layer.normalized_weight().detach().flatten(2).cpu()  # (O, C, K)
    # Of an output, per unit of noise in each channel of the input.
    gain = kernel.square().sum(2)  # (O, C)
    signal = (gain @ power).clamp_min(1e-12)  # (O,)
    levels = layer.weight_quantizer.grid.levels - 1
    taps, largest = kernel.shape[2], kernel.abs().amax(2)

    def noise(ratio: Tensor) -> float:
        steps = ratio * (high - low).amax() / (grid.levels - 1)
        of_input = gain @ steps.square() / 12
        step = 2 * (largest * ratio).amax(1) / levels
        of_weights = step.square() / 12 * taps * (power / ratio**2).sum()
        return float(((of_input + of_weights) / signal).mean())

    ratios = [span.squeeze(1).clamp_min(MIN_SPAN) ** a for a in EXPONENTS]
    ratio = min(ratios, key=noise)[:, None]
    importance = (gain / signal[:, None]).sum(0)  # (C,)
    best, result = torch.inf, (high, low)
    for share in SHARES:
        step = ratio * (high - low).amax() * share / (grid.levels - 1)
        zero = grid.lo - torch.floor(low / step + 0.5)
        zero = zero.clamp(grid.lo, grid.hi - 1)
        # Nothing is larger than the largest of all channels, a ReLU6's limit
        # for one.
        clip = ((grid.hi - zero) * step).minimum(high.amax())
        error = (fake_quantize(rows, clip, grid, zero) - rows).square()
        total = float(((error * weights).sum(1) * importance).sum())
        if total < best:
            best, result = total, (clip, zero)
    clip, zero = (x.view(1, -1, 1, 1).to(quantizer.clip) for x in result)
    return clip, zero
