"""Weights that are rounded together, for the outputs that they make.

The error of one rounded weight is made up for by the weights that are rounded
after it, as the inputs' covariance tells (Frantar et al., "OPTQ", section 3).
"""

from collections.abc import Iterable
from contextlib import ExitStack
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.weighted import QuantConv2d, QuantizedLayer
from ..models.quantized_detector import quantized_layers
from ..quantizers.fake_quantize import fake_quantize
from .calibration import every_rounding, run, unchanged

# Numbers of a map from which a layer's covariance is made, and its windows at
# least. Products take windows times the square of a window's size, which is 64
# numbers in small detectors and 2304 in a ResNet's pyramid.
MAP_NUMBERS, MIN_WINDOWS = 2**18, 2**6
# Weights of an output channel up to which a layer is reconstructed: those of
# 3x3 windows of 512 channels. Time grows with the cube of them, and memory
# with the square: the first linear layer behind RoIAlign has 12544, whose
# covariance would take gigabytes and many minutes.
MAX_WIDTH = 9 * 512
# Share of the mean variance that is added to each: inputs that never change
# would otherwise have any weight.
DAMPING = 0.01


class _Covariance:
    """Adds up products of what the weights of a layer are multiplied by.

    They are of differences from means: of values that hardly differ, as those
    of black pictures, nothing but rounding errors would be left of others.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        self.layer = layer
        self.groups = layer.groups if isinstance(layer, QuantConv2d) else 1
        width = layer.weight[0].numel()
        self.windows = max(MIN_WINDOWS, MAP_NUMBERS // width)
        shape = (self.groups, width, width)
        self.products = torch.zeros(shape, dtype=torch.float64)
        self.mean = torch.zeros(shape[:2], dtype=torch.float64)
        self.count = 0
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, module: Any, args: tuple[Tensor, ...]) -> None:
        rows = self._windows(args[0].detach())  # (G, N, width)
        places = torch.randint(
            max(rows.shape[1], 1), (self.windows,), generator=self.generator
        )
        if rows.shape[1] > self.windows:
            rows = rows[:, places]
        if rows.shape[1]:
            self._add(rows.cpu())

    def _add(self, rows: Tensor) -> None:
        """Add windows, which may have another mean than those before."""
        count = rows.shape[1]
        mean = rows.double().mean(1)
        step = mean - self.mean
        share = count / (self.count + count)
        # One more row, for the difference of the means.
        between = sqrt(self.count * share) * step
        parts = [rows - mean.to(rows)[:, None], between.to(rows)[:, None]]
        centred = torch.cat(parts, 1)
        self.products += centred.mT @ centred
        self.mean += share * step
        self.count += count

    def _windows(self, x: Tensor) -> Tensor:
        layer = self.layer
        if not isinstance(layer, QuantConv2d):
            return x.reshape(1, -1, x.shape[-1])
        padding = layer.padding
        assert not isinstance(padding, str)  # which from_float makes numbers
        windows = F.unfold(
            x, layer.kernel_size, layer.dilation, padding, layer.stride
        )
        groups = windows.unflatten(1, (self.groups, -1))  # (N, G, width, L)
        return groups.permute(1, 0, 3, 2).flatten(1, 2)

    def matrix(self) -> Tensor:
        """Return the covariance of each group, damped, (G, width, width)."""
        covariance = self.products / self.count
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        damping = DAMPING * diagonal.mean(1).clamp_min(1e-8)
        eye = torch.eye(covariance.shape[1], dtype=torch.float64)
        return covariance + damping[:, None, None] * eye


@torch.no_grad()
def reconstruct(detector: Any, pictures: Iterable[Tensor]) -> None:
    """Round the weights of each layer for the least error of its outputs.

    Args:
        detector: The calibrated detector; its weights become their rounded
            values, but for those of layers wider than :data:`MAX_WIDTH`,
            which stay as they are. Means are
            :func:`~.correction.correct`'s affair.
        pictures: As of :func:`~.calibration.calibrate`.
    """
    layers = [
        layer
        for layer in quantized_layers(detector).values()
        if layer.weight[0].numel() <= MAX_WIDTH
    ]
    statistics = [_Covariance(layer) for layer in layers]
    with ExitStack() as stack:
        stack.enter_context(every_rounding(detector, unchanged))
        for layer, statistic in zip(layers, statistics, strict=True):
            handle = layer.register_forward_pre_hook(statistic)
            stack.callback(handle.remove)
        for picture in pictures:
            run(detector, picture)
    for layer, statistic in zip(layers, statistics, strict=True):
        if statistic.count:
            _round_together(layer, statistic)


def _round_together(layer: QuantizedLayer, statistic: _Covariance) -> None:
    quantizer, ratio = layer.weight_quantizer, layer.input_ratio()
    weight = layer.scaled_weight()
    matrix = statistic.matrix()
    if ratio is not None:
        # Weights times a ratio read inputs divided by it.
        window = ratio.expand(1, *layer.weight.shape[1:]).reshape(1, -1)
        by = window.double().cpu()
        matrix = matrix / (by[:, :, None] * by[:, None])
    groups, width = statistic.mean.shape
    rows = weight.double().cpu().reshape(groups, -1, width)
    clip = quantizer.clip.detach().double().cpu()
    clip = clip.reshape(-1, 1).expand(len(layer.weight), 1)
    clip = clip.reshape(groups, -1)
    # Largest variances first: what is left makes up for them.
    order = matrix.diagonal(dim1=1, dim2=2).argsort(1, descending=True)
    rows = rows.gather(2, order[:, None].expand_as(rows))
    matrix = torch.stack(
        [m[o][:, o] for m, o in zip(matrix, order, strict=True)]
    )
    inverse = torch.linalg.cholesky(torch.linalg.inv(matrix)).mT
    for i in range(width):
        rounded = fake_quantize(rows[:, :, i], clip, quantizer.grid)
        error = (rows[:, :, i] - rounded) / inverse[:, i, i, None]
        rows[:, :, i] = rounded
        rows[:, :, i + 1 :] -= error[:, :, None] * inverse[:, i, None, i + 1 :]
    back = order.argsort(1)
    rows = rows.gather(2, back[:, None].expand_as(rows))
    result = rows.reshape(weight.shape).to(layer.weight)
    layer.weight.copy_(result if ratio is None else result / ratio)
