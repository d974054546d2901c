"""Detectors that were calibrated but not trained, and their programs."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from aqd_mmdet.compiler.fold import Folded, fold
from aqd_mmdet.compiler.trace import Trace, trace
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.quantizers.quantizer import Quantizer
from aqd_mmdet.quantizers.start import mse_clip
from tests.conftest import digits_config

MEAN = (124, 116, 104)


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape).to(torch.uint8)


def normalised(image: Tensor) -> Tensor:
    return image.float() - torch.tensor(MEAN).float()[:, None, None]


def unusual_norms(model: nn.Module) -> None:
    """Give norms gammas that are negative, zero and tiny."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            with torch.no_grad():
                module.weight[0], module.weight[1] = 0, 1e-12
                module.weight[2], module.bias[2] = 1e-30, 3.0


def narrow(depth: int, bits: int, detector: str) -> Config:
    """A detector of a real depth whose layers are thin."""
    cfg = digits_config('fp', detector).model
    wide = 8 if depth < 50 else 32
    cfg.bits = bits
    cfg.backbone.update(depth=depth, base_channels=8)
    cfg.neck.update(
        in_channels=[wide, 2 * wide, 4 * wide, 8 * wide], out_channels=8
    )
    cfg.bbox_head.update(in_channels=8, feat_channels=8)
    return cfg


@dataclass(frozen=True)
class Compiled:
    """A detector, its graph and its program."""

    model: nn.Module
    trace: Trace
    folded: Folded


def compile_narrow(
    depth: int = 18, bits: int = 2, detector: str = 'retinanet'
) -> Compiled:
    """Build, calibrate and compile a narrow detector."""
    model = MODELS.build(narrow(depth, bits, detector)).eval()
    unusual_norms(model)
    # Norms of one pixel have no statistics: at least 2 x 2 at the top.
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    # Calibration can put two steps at a ratio of exactly 1/2. Then every
    # second code is a tie, which float32 rounds as it happens; training
    # moves them apart, and so does this.
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Quantizer):
                module.clip.mul_(1 + 0.03 * torch.rand(()))
    captured = trace(model)
    return Compiled(model, captured, fold(captured, MEAN, 32, FixedPoint()))


@pytest.fixture
def compiled() -> Callable[..., Compiled]:
    """Builds, calibrates and compiles a narrow detector."""
    return compile_narrow
