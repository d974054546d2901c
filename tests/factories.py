"""What several test modules need: configs and detectors."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from aqd_mmdet.compiler.fold import Folded, fold
from aqd_mmdet.compiler.graph import Trace
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    AnchorLevel,
    Anchors,
    CompiledDetector,
    Curve,
    PostProcess,
    PreProcess,
    Sigmoid,
)
from aqd_mmdet.program.fixed_point import FixedPoint, Multipliers
from aqd_mmdet.quantizers.quantizer import Quantizer
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime.engine import Engine

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / 'configs'
MEAN = (124, 116, 104)
DIGITS = tuple('0123456789')


def digits_config(bits: str = '2bit', detector: str = 'retinanet') -> Config:
    """The config of a small detector on digits."""
    return Config.fromfile(CONFIGS / f'digits/{detector}_digits_{bits}.py')


def data_options(digits: Path) -> list[str]:
    """Overrides that point a digits config at a dataset, without workers.

    Annotations are not serialised for workers, because mmengine collects
    garbage then, which takes longer than the whole dataset.
    """
    options = [
        f'val_evaluator.ann_file={digits}/val.json',
        f'test_evaluator.ann_file={digits}/val.json',
    ]
    for split in ('train', 'val', 'test'):
        options += [
            f'{split}_dataloader.dataset.data_root={digits}/',
            f'{split}_dataloader.dataset.serialize_data=False',
            f'{split}_dataloader.num_workers=0',
        ]
    return options


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


def narrow_model(depth: int, bits: int, detector: str) -> nn.Module:
    """Build and calibrate a narrow detector."""
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
    return model


def digits_detector(checkpoint: Path) -> nn.Module:
    """Build and calibrate the digits detector of 2 bits, and write its
    checkpoint, as a training would."""
    torch.manual_seed(0)
    model = MODELS.build(digits_config('2bit').model)
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    content = dict(
        state_dict=model.state_dict(),
        meta=dict(dataset_meta=dict(classes=DIGITS)),
    )
    torch.save(content, checkpoint)
    return model.eval()


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
    model = narrow_model(depth, bits, detector)
    captured = trace(model)
    return Compiled(model, captured, fold(captured, MEAN, 32, FixedPoint()))


@cache
def narrow_program(bits: int = 2, detector: str = 'retinanet') -> ir.Program:
    """The program of a narrow detector of depth 18, which tests share."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return compile_narrow(18, bits, detector).folded.program


def table(channels: int) -> Multipliers:
    return Multipliers(
        np.full(channels, 5, np.int32),
        np.full(channels, 4, np.int64),
        np.full(channels, 3, np.uint8),
    )


def curve(values: list[int]) -> Curve:
    return Curve(np.array(values, np.int32), -(2**24), 24)


def detector() -> CompiledDetector:
    """A detector of one level, as small as one can be."""
    one = (1, 1)

    def conv(name: str, channels: int) -> ir.Convolution:
        return ir.Convolution(
            name, ('p',), channels, ir.INT32, one, one, (0, 0), one, name, 1
        )

    ops = (
        ir.Image('p', ('image',), 3, ir.Grid(-255, 255), (124, 116, 104)),
        conv('c', 2),
        conv('b', 4),
        ir.Requantize('cls', ('c',), 2, ir.INT32, table(1)),
        ir.Requantize('box', ('b',), 4, ir.INT32, table(4)),
    )
    rng = np.random.default_rng(0)
    weights = {
        'c': ir.Weights.of(
            rng.choice([-3, -1, 1, 3], (2, 3, 1, 1)).astype(np.int8), 2
        ),
        'b': ir.Weights.of(
            rng.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8), 8
        ),
    }
    outputs = (ir.Output(('cls',), 0.25), ir.Output(('box',), 0.125))
    base = np.array([[0, 0, 4096, 8192]], np.int32)
    post = PostProcess(
        Anchors(
            (AnchorLevel((8, 8), base),), table(4), 1000, curve([2**16] * 3)
        ),
        Sigmoid(table(1), curve([0, 2**23, 2**24])),
        -7,
        1000,
        1000,
        0,
        32768,
        100,
    )
    return CompiledDetector(
        ir.Program(ops, weights, outputs, 8),
        PreProcess(160, 160, False, (1, 2, 3), False, False),
        post,
        None,
        ('cat', 'dög'),
    )


def engine_of(compiled: CompiledDetector, threads: int = 1) -> Engine:
    return Engine(compiled, file.to_bytes(compiled), threads)


def read_back(compiled: CompiledDetector) -> CompiledDetector:
    """The detector in its file, which proves that one may be like it."""
    return file.from_bytes(file.to_bytes(compiled))


def noise(seed: int, *size: int) -> np.ndarray:
    """Pixels of few values, so that ranks tie."""
    rng = np.random.default_rng(seed)
    values = np.array([0, 255, *rng.integers(0, 256, rng.integers(1, 6))])
    return values[rng.integers(0, len(values), (*size, 3))].astype(np.uint8)
