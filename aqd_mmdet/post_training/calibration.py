"""Starts a detector's quantisers by what unlabelled pictures make."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from ..errors import UserError
from ..layers.activation import FixedPointActivation
from ..models.quantized_detector import quantized_layers
from ..patches import patched
from ..quantizers.fake_quantize import fake_quantize, step_size
from ..quantizers.quantizer import (
    Quantizer,
    Rounding,
    RoundingHook,
    RoundingModule,
    WeightQuantizer,
)
from .ranges import balanced_range, is_balanced, start_inputs, start_weights

# Values of a tensor, or of each of its channels, that are kept of all
# pictures: enough to place an end of 8 bits within a code.
TENSOR_SAMPLES, CHANNEL_SAMPLES = 2**17, 2**11
# The largest and the smallest value of each of so many strips of a picture are
# kept too. They are what objects make; a sample alone would miss them.
STRIPS = 8


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
        strips = rows.chunk(STRIPS, 1)
        for end in (torch.amax, torch.amin):
            self._keep(torch.stack([end(strip, 1) for strip in strips], 1), 1)
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
        rounded = quantizer.look_up(rounded, step)
        exact = quantizer.function(exact)
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
