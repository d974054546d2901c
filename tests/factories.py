"""What several test modules make: configs, detectors, runs of tools."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from aqd_mmdet.compiler.fold import Folded, fold
from aqd_mmdet.compiler.graph import Trace
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.quantizers.quantizer import Quantizer
from aqd_mmdet.quantizers.start import mse_clip

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / 'configs'
MEAN = (124, 116, 104)


def digits_config(bits: str = '2bit', detector: str = 'retinanet') -> Config:
    """The config of a small detector on digits."""
    return Config.fromfile(CONFIGS / f'digits/{detector}_digits_{bits}.py')


def data_options(digits: Path) -> list[str]:
    """Overrides that point a digits config at a dataset, without workers."""
    options = [
        f'val_evaluator.ann_file={digits}/val.json',
        f'test_evaluator.ann_file={digits}/val.json',
    ]
    for split in ('train', 'val', 'test'):
        options += [
            f'{split}_dataloader.dataset.data_root={digits}/',
            f'{split}_dataloader.num_workers=0',
        ]
    return options


def run_tool(
    *arguments: object, timeout: float = 300
) -> subprocess.CompletedProcess:
    """Run a tool as a user would, on one core."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def error_line(result: subprocess.CompletedProcess) -> str:
    """Return the one line that a user's mistake gives, and check that it is
    one."""
    assert result.returncode == 2, result.stderr[-2000:]
    assert 'Traceback' not in result.stderr
    lines = [x for x in result.stderr.splitlines() if x.startswith('error: ')]
    assert len(lines) == 1, result.stderr
    return lines[0]


def started(module: nn.Module) -> nn.Module:
    """Let all quantisers of a module have the published start, 1."""
    for each in module.modules():
        if isinstance(each, Quantizer):
            each.started.fill_(True)
    return module


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
