"""Bias correction: what rounding adds to a channel's mean is taken off."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.weighted import QuantConv2d, QuantizedLayer
from ..models.quantized_detector import quantized_layers
from .calibration import run


class _Difference:
    """Sums what is missing in the mean of a quantised layer's outputs.

    It is a hook of the float layer, whose inputs both are given.

    Args:
        layer: The quantised layer.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        self.layer = layer
        channels = layer.weight.shape[0]
        self.total = layer.weight.new_zeros(channels, dtype=torch.float64)
        self.count = 0

    def __call__(
        self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> None:
        if output.numel():  # of a second stage without regions
            axes = (0, 2, 3) if isinstance(self.layer, QuantConv2d) else (0,)
            difference = output - self.layer(*args)
            self.total += difference.double().mean(axes)
            self.count += 1


@torch.no_grad()
def correct(student: Any, teacher: Any, pictures: Iterable[Tensor]) -> None:
    """Add to each layer's bias the mean that its rounding takes off.

    Each layer is given what the float detector's is, so that one pass serves
    all (Nagel et al., "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2; means are measured here).

    Args:
        student: The calibrated detector; changed in place.
        teacher: The float detector.
        pictures: As of :func:`~.calibration.calibrate`.
    """
    layers = quantized_layers(student)
    differences = {n: _Difference(layer) for n, layer in layers.items()}
    with ExitStack() as stack:
        for name, difference in differences.items():
            module = teacher.get_submodule(name)
            handle = module.register_forward_hook(difference)
            stack.callback(handle.remove)
        for picture in pictures:
            run(teacher, picture)
    for difference in differences.values():
        if not difference.count:
            continue
        layer = difference.layer
        offset = (difference.total / difference.count).to(layer.weight)
        if layer.bias is None:
            layer.bias = nn.Parameter(offset)
        else:
            layer.bias += offset
