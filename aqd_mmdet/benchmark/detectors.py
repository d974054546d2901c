"""Builds the detectors of the benchmark, with random weights.

Clip values and norms are calibrated on random pictures. The speed of a network
does not depend on these values, and all codes are on the same grids as after
training.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..compiler.compile import compile_detector
from ..engine.calibration import calibrate
from ..models.heads import use_own_heads
from ..post_training.quantize import quantize
from ..post_training.recipe import find_recipe
from ..post_training.stems import find_stems, fold_preprocessor
from ..program.detector import CompiledDetector
from ..quantizers.start import mse_clip
from .cases import Network

# Side of the calibration pictures of a detector that accepts all sizes, in
# pixels. It is large enough that the coarsest level of the pyramid has several
# pixels, so its norm has statistics.
CALIBRATION_SIDE = 256
# Random pictures are rectangles on top of each other, with noise: they have
# edges and areas as photographs do ("dead leaves"). Behind smooth pictures, or
# fewer, norms of deep layers would see so small a variance that photographs
# would make activations many times as large. These are the numbers of leaves,
# each of which has 1/64 to 1/2 of a side.
LEAVES = (12, 25, 50, 100, 200, 400, 800, 1600)
SMALLEST, LARGEST = 1 / 64, 1 / 2
NOISE = 8.0


@dataclass(frozen=True)
class FloatDetector:
    """A float detector, and pictures to quantise it with.

    Attributes:
        detector: In evaluation mode.
        cfg: The whole config.
        pixels: Bytes, float (N, 3, H, W), their channels in the order of the
            network's.
    """

    detector: Any
    cfg: Config
    pixels: Tensor

    @property
    def images(self) -> Tensor:
        """The pictures as the network is given them, float (N, 3, H, W)."""
        return normalised(self.detector, self.pixels)


def build_float(network: Network, configs: Path) -> FloatDetector:
    """Return a detector in float.

    Args:
        network: The case.
        configs: Folder of the configs.
    """
    cfg = _read_config(network, configs)
    if not network.source.is_zoo:
        cfg.model.bits = 'float'
    pixels = random_pixels(network.size)
    return FloatDetector(_build(network, cfg), cfg, pixels)


def compile_at(
    network: Network, configs: Path, bits: int, floating: FloatDetector | None
) -> CompiledDetector:
    """Return a detector whose weights and activations have some width.

    Args:
        network: The case.
        configs: Folder of the configs.
        bits: Bit width.
        floating: The float detector to quantise; None for a case whose config
            is of a quantised detector.
    """
    if floating is None:
        cfg = _read_config(network, configs)
        cfg.model.bits = bits
        detector = _build(network, cfg)
    else:
        cfg = floating.cfg
        detector = _quantized(floating, bits)
    return compile_detector(detector, cfg, lambda text: None).compiled


def _read_config(network: Network, configs: Path) -> Config:
    register_all_modules()
    source = network.source
    if source.is_zoo:
        # mmengine resolves a package's name in bases alone.
        cfg = Config.fromstring(f"_base_ = '{source.config}'", '.py')
        use_own_heads(cfg)
        return cfg
    return Config.fromfile(configs / source.config)


def _build(network: Network, cfg: Config) -> nn.Module:
    torch.manual_seed(0)
    cfg.model.backbone.init_cfg = None
    detector: Any = MODELS.build(cfg.model)
    side = CALIBRATION_SIDE
    size = network.size if network.source.is_zoo else (side, side)
    images = normalised(detector, random_pixels(size))
    calibrate(detector, [dict(inputs=images)], mse_clip)
    return detector.eval()


def _quantized(floating: FloatDetector, bits: int) -> nn.Module:
    detector = folded(floating.detector)
    recipe = find_recipe(detector, find_stems(detector), bits, bits)
    images = normalised(detector, floating.pixels)
    return quantize(
        detector, recipe, images.split(1), 'calibrate', lambda text: None
    ).detector


def folded(detector: Any) -> Any:
    """Return a copy that reads bytes minus whole numbers."""
    copy = deepcopy(detector)
    fold_preprocessor(copy, find_stems(copy))
    return copy


def random_pixels(size: tuple[int, int]) -> Tensor:
    """Return random pictures, float (N, 3, H, W), whole numbers up to 255.

    Args:
        size: Height and width.
    """
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor(size)
    pixels = torch.full((len(LEAVES), 3, *size), 128.0)
    for picture, leaves in zip(pixels, LEAVES, strict=True):
        for _ in range(leaves):
            exponents = torch.rand(2, generator=generator)
            extent = sides * SMALLEST * (LARGEST / SMALLEST) ** exponents
            corner = torch.rand(2, generator=generator) * (sides + extent)
            low = (corner - extent).clamp(min=0).long().tolist()
            high = corner.long().tolist()
            colour = 255 * torch.rand(3, 1, 1, generator=generator)
            picture[:, low[0] : high[0], low[1] : high[1]] = colour
    pixels += NOISE * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 255).round()


def normalised(detector: Any, pixels: Tensor) -> Tensor:
    """Return pictures as a detector's network is given them.

    Args:
        detector: The detector.
        pixels: Bytes, float (N, 3, H, W).
    """
    pre = detector.data_preprocessor
    if not getattr(pre, '_enable_normalize', False):
        return pixels
    return (pixels - pre.mean) / pre.std
