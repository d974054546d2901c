"""Bias correction: what rounding adds to a channel's mean is taken off."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.weighted import QuantConv2d, QuantizedLayer
from ..models.quantized_detector import quantized_layers
from ..patches import patched
from .calibration import every_rounding, unchanged


class _Difference:
    """Sums what a layer's rounding takes off the mean of its outputs.

    Args:
        layer: The layer; while it is watched it returns what it would without
            rounding.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        self.layer = layer
        self.forward = layer.forward
        channels = layer.weight.shape[0]
        self.total = layer.weight.new_zeros(channels, dtype=torch.float64)
        self.count = 0

    def __call__(self, x: Tensor) -> Tensor:
        rounded = self.forward(x)
        with every_rounding(self.layer, unchanged):
            exact = self.forward(x)
        difference = exact - rounded
        axes = (0, 2, 3) if isinstance(self.layer, QuantConv2d) else (0,)
        if difference.numel():
            self.total += difference.double().mean(axes)
            self.count += 1
        return exact


@torch.no_grad()
def correct(detector: Any, pictures: Iterable[Tensor]) -> None:
    """Add to each layer's bias the mean that its rounding takes off.

    Each layer is given what the float detector's is, so that one pass serves
    all (Nagel et al., "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2; means are measured here).

    Args:
        detector: The calibrated detector; changed in place.
        pictures: As of :func:`~.calibration.calibrate`.
    """
    layers = list(quantized_layers(detector).values())
    differences = [_Difference(layer) for layer in layers]
    others = [
        module
        for module in detector.modules()
        if hasattr(module, 'hook') and not _is_of(module, layers)
    ]
    with ExitStack() as stack:
        for module in others:
            stack.enter_context(patched(module, hook=unchanged))
        for layer, difference in zip(layers, differences, strict=True):
            stack.enter_context(patched(layer, forward=difference))
        for picture in pictures:
            detector(picture, mode='tensor')
    for layer, difference in zip(layers, differences, strict=True):
        if not difference.count:
            continue
        offset = (difference.total / difference.count).to(layer.weight)
        if layer.bias is None:
            layer.bias = nn.Parameter(offset)
        else:
            layer.bias += offset


def _is_of(module: nn.Module, layers: list[QuantizedLayer]) -> bool:
    """Say whether a quantiser belongs to one of some layers."""
    return any(
        module in (layer.weight_quantizer, layer.input_quantizer)
        for layer in layers
    )
