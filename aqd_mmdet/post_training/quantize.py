"""From a trained float detector to a quantised one, without annotations."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models.operations import maps_of
from ..models.quantized_detector import quantize_detector, quantized_layers
from ..progress import progress
from .calibration import (
    RangeReport,
    calibrate,
    every_rounding,
    unchanged,
)
from .correction import correct
from .distillation import STEPS, distill
from .reconstruction import reconstruct

# What is done, each after those before it.
EFFORTS = ('calibrate', 'correct', 'reconstruct', 'distill')
# Distillation doubles the time.
DEFAULT_EFFORT = 'reconstruct'
# Mean squared difference in a map's variances, beyond which it is another map.
# Layers that limit what they make, as group norms do, change a few numbers.
MOST_DIFFERENCE = 1e-2


@dataclass(frozen=True)
class Quantized:
    """A quantised detector, and how well its quantisers fit.

    Attributes:
        detector: It can be compiled, or trained on.
        ranges: Of each quantiser of inputs.
    """

    detector: nn.Module
    ranges: tuple[RangeReport, ...]


def quantize(
    detector: nn.Module,
    recipe: Sequence[dict[str, Any]],
    pictures: Sequence[Tensor],
    effort: str = DEFAULT_EFFORT,
    say: Callable[[str], None] = print,
) -> Quantized:
    """Quantise a trained float detector.

    Args:
        detector: In evaluation mode, its preprocessor folded
            (:func:`~.stems.fold_preprocessor`); it is left as it is.
        recipe: As of :func:`aqd_mmdet.models.QuantizedDetector`; all rules of
            convolutions name their widths, and none normalises weights.
        pictures: As the preprocessor makes them, float (1, 3, H, W) each.
        effort: One of :data:`EFFORTS`.
        say: Told what is being done.

    Raises:
        UserError: If the recipe does not fit, or there is no picture.
    """
    if effort not in EFFORTS:
        raise UserError(f'effort={effort!r}: give one of {", ".join(EFFORTS)}')
    if not pictures:
        raise UserError('no pictures: quantisers are calibrated by some')
    student = deepcopy(detector).eval()
    quantize_detector(student, recipe, 8)
    _check_exchange(student, detector, pictures[0])
    say(f'calibrating on {len(pictures)} pictures')
    ranges = calibrate(
        student,
        progress(pictures, desc='calibrating', unit='picture'),
        len(pictures),
    )
    level = EFFORTS.index(effort)
    if level >= EFFORTS.index('reconstruct'):
        say('rounding weights together')
        bar = progress(pictures, desc='reconstructing', unit='picture')
        reconstruct(student, bar)
    if level >= EFFORTS.index('correct'):
        say('correcting biases')
        bar = progress(pictures, desc='correcting', unit='picture')
        correct(student, detector, bar)
    if level >= EFFORTS.index('distill'):
        say('distilling the float detector')
        losses = distill(student, detector, pictures)
        bar = progress(losses, desc='distilling', unit='step', total=STEPS)
        for loss in bar:
            bar.set_postfix_str(f'loss {loss:.4f}')
    return Quantized(student, ranges)


def _check_exchange(
    student: nn.Module, detector: nn.Module, picture: Tensor
) -> None:
    """Raise if a detector makes other maps with exchanged layers unrounded."""
    _check_weights(student)
    with every_rounding(student, unchanged):
        found = maps_of(student, picture)
    for x, y in zip(maps_of(detector, picture), found, strict=True):
        if x.shape != y.shape or _are_others(x, y):
            raise UserError(
                f'{type(detector).__name__}: expected the same maps with its '
                'layers exchanged and nothing rounded, found others: a '
                'forward asks for the type of a layer or of itself '
                '(isinstance, type), which exchanged layers have not; ask '
                'for something else there'
            )


def _are_others(x: Tensor, y: Tensor) -> bool:
    # The numbers of a constant map differ by roundings alone.
    least = 1e-8 * x.abs().max() ** 2
    limit = MOST_DIFFERENCE * torch.maximum(x.var(correction=0), least)
    return bool((x - y).square().mean() > limit)


def _check_weights(student: nn.Module) -> None:
    """Raise if a layer would normalise weights that were trained without."""
    for name, layer in quantized_layers(student).items():
        if layer.normalize:
            raise UserError(
                f'{name}: expected a rule of the recipe with normalize=False, '
                'found one that normalises weights (the default without a '
                'bias): batch norms keep their statistics, which would no '
                'longer fit; add it, conv=dict(normalize=False, ...)'
            )
