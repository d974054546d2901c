"""Write docs/models.md: which detectors of MMDetection can be quantised.

Each config is built at each bit width, trained for one step, evaluated,
traced and compiled. Then its program is compared with integer-aware mode, and
the engine with the reference. The config of MMDetection is quantised as it is,
after training.
"""

import argparse
import json
import re
import site
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.compiler.images import image_mean
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.engine.launch import replace_sync_bn
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import write_whole
from aqd_mmdet.models.heads import use_own_heads
from aqd_mmdet.models.integer_aware import IntegerNetwork, IntegerRegions
from aqd_mmdet.post_training.quantize import quantize
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.stems import find_stems, fold_preprocessor
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.program.ops import Image
from aqd_mmdet.progress import progress
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.engine import Engine

ROOT = Path(__file__).parent.parent
BASES = ROOT / 'configs/_base_/models'
WIDTHS = (8, 4, 2)
# Side of the training images in pixels. It is large enough that the coarsest
# level of the pyramid has several pixels, so its norm has statistics.
TRAIN_SIDE = 256
# Side of the images in comparisons, which are slow in the reference.
COMPARE_SIDE = 64
REGION_SIDE = 7  # bins of a region in a second stage
# Width of weights and activations after training, and side of the pictures.
ZOO_BITS, ZOO_SIDE, ZOO_PICTURES = 8, 128, 2


# Configs of MMDetection for which configs/mix has none.
FOREIGN = (
    'yolof/yolof_r50-c5_8xb8-1x_coco.py',
    'tood/tood_r50_fpn_1x_coco.py',
    'ddod/ddod_r50_fpn_1x_coco.py',
    'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'pvt/retinanet_pvt-t_fpn_1x_coco.py',
    'detr/detr_r50_8xb2-150e_coco.py',
    'solo/solo_r50_fpn_1x_coco.py',
)
# Quantised after training alone.
ZOO_ONLY = (
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py',
    'yolox/yolox_nano_8xb8-300e_coco.py',
    'yolox/yolox_tiny_8xb8-300e_coco.py',
)


@dataclass
class Row:
    """Result of one detector at one bit width.

    Attributes:
        name: Name of the config.
        bits: Bit width.
        zoo: Name of MMDetection's config, if that was quantised.
        done: Steps that the detector passed.
        reason: Why it failed the next step; empty if it passed all steps.
    """

    name: str
    bits: int
    zoo: str = ''
    done: list[str] = field(default_factory=list)
    reason: str = ''


@contextmanager
def step(row: Row, name: str) -> Iterator[None]:
    """Record a step as passed unless its body raises."""
    yield
    row.done.append(name)


def check(row: Row, read: Callable[[], Config]) -> Row:
    """Run all steps on a detector and return its completed row.

    Args:
        row: Name and bit width; the result is written into it.
        read: Reads the config.
    """
    torch.manual_seed(0)
    # YOLOX's augmentation and TOOD's assignment read these counters, which
    # only mmengine's training loops set.
    for counter in ('iter', 'epoch'):
        MessageHub.get_current_instance().update_info(counter, 0)
    try:
        (_zoo_steps if row.zoo else _steps)(row, read())
    except UserError as error:
        row.reason = str(error)
    except Exception as error:  # mmdet raises errors of any kind
        lines = str(error).strip().splitlines() or ['']
        row.reason = f'{type(error).__name__}: {lines[0]}'
    row.reason = row.reason.replace(f'{site.getsitepackages()[0]}/', '')
    return row


def _steps(row: Row, cfg: Config) -> None:
    cfg.model.bits = row.bits
    cfg.model.backbone.init_cfg = None
    replace_sync_bn(cfg.model)
    with step(row, 'builds'):
        model = MODELS.build(cfg.model)
    with step(row, 'trains'):
        shape = (3, TRAIN_SIDE, TRAIN_SIDE)
        masks = any('mask' in name for name in cfg.model.get('roi_head', ()))
        data = demo_mm_inputs(2, [shape] * 2, num_classes=3, with_mask=masks)
        data = model.data_preprocessor(data, True)
        calibrate(model, [data], mse_clip)
        losses, _ = model.train().parse_losses(model(**data, mode='loss'))
        losses.backward()
        for name, parameter in model.named_parameters():
            is_finite = parameter.grad is not None and bool(
                torch.isfinite(parameter.grad).all()
            )
            if parameter.requires_grad and not is_finite:
                raise UserError(f'{name} has no finite gradient')
    model.eval()
    with step(row, 'evaluates'), torch.no_grad():
        data = demo_mm_inputs(1, [(3, TRAIN_SIDE, TRAIN_SIDE)])
        data = model.data_preprocessor(data, False)
        (sample,) = model(**data, mode='predict')
        if not torch.isfinite(sample.pred_instances.bboxes).all():
            raise UserError('a box is infinite or NaN')
    with step(row, 'traces'):
        trace(model)
    with step(row, 'compiles'):
        compiled = compile_detector(model, cfg, silent).compiled
        file.from_bytes(file.to_bytes(compiled))
    with step(row, 'equal'):
        _compare(model)
    with step(row, 'engine'):
        _compare_engine(compiled)


def _zoo_steps(row: Row, cfg: Config) -> None:
    with step(row, 'zoo'):
        model = MODELS.build(cfg.model).eval()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.running_var.uniform_(0.5, 1.5)
        stems = find_stems(model)
        fold_preprocessor(model, stems)
        recipe = find_recipe(model, stems, row.bits, row.bits)
        pre = model.data_preprocessor
        mean = torch.tensor(image_mean(pre)).float()[:, None, None]
        side = max(ZOO_SIDE, pre.pad_size_divisor)
        pictures = [
            torch.randint(0, 256, (1, 3, side, side)) - mean
            for _ in range(ZOO_PICTURES)
        ]
        quantised = quantize(model, recipe, pictures, 'calibrate', silent)
        compilation = compile_detector(quantised.detector, cfg, silent)
        _compare_engine(compilation.compiled)


def silent(text: str) -> None:
    """Say nothing of what is being done."""


def _compare(model: nn.Module) -> None:
    network = IntegerNetwork(model)
    side = max(COMPARE_SIDE, network.stride)
    pixels = torch.randint(0, 256, (1, 3, side, side)).to(torch.uint8)
    mean = torch.tensor(network.mean).float()[:, None, None]
    aware = network.evaluate(pixels - mean)
    program = network.folded.program
    expected = reference.run(program, pixels.numpy())
    exact = network.real_maps(
        {name: torch.from_numpy(codes) for name, codes in expected.items()}
    )
    for out, maps, others in zip(program.outputs, aware, exact, strict=True):
        for name, values, other in zip(out.tensors, maps, others, strict=True):
            if not torch.equal(values, other):
                raise UserError(
                    f'{name}: program and integer-aware mode differ'
                )
    if network.regions is not None:
        _compare_regions(network.regions)


def _compare_regions(regions: IntegerRegions) -> None:
    assert regions.regions is not None
    for number, stage in enumerate(regions.regions.stages):
        first = stage.program.ops[0]
        shape = (3, first.channels, stage.bins, stage.bins)
        low, high = first.grid.lo, first.grid.hi + 1
        values = torch.randint(low, high, shape, dtype=torch.int32)
        aware = regions.maps(number, values)
        expected = reference.run(stage.program, values.numpy())
        for out, output in zip(stage.program.outputs, aware, strict=True):
            exact = torch.from_numpy(expected[out.tensors[0]]).double()
            exact = (exact * out.scale).float().flatten(1)
            if not torch.equal(output, exact):
                raise UserError(
                    f'stage {number}: program and integer-aware mode differ'
                )


def _compare_engine(compiled: CompiledDetector) -> None:
    content, rng = file.to_bytes(compiled), np.random.default_rng(0)
    for program in compiled.programs:
        first = program.ops[0]
        if isinstance(first, Image):
            low, high, side = 0, 256, max(COMPARE_SIDE, program.stride)
        else:
            low, high, side = first.grid.lo, first.grid.hi + 1, REGION_SIDE
        values = rng.integers(low, high, (1, first.channels, side, side))
        expected = reference.run(program, values)
        outputs = Engine(compiled, content, 2).run(program, values)
        for name, maps in expected.items():
            if not np.array_equal(outputs[name], maps):
                raise UserError(f'{name}: engine and reference differ')


STEPS = (
    *('builds', 'trains', 'evaluates', 'traces', 'compiles', 'equal'),
    *('engine', 'zoo'),
)


# A row to fill, and what reads its config.
Task = tuple[Row, Callable[[], Config]]


def tasks() -> list[Task]:
    """Return the rows of all configs, and those of their originals."""
    readers: dict[str, Callable[[], Config]] = {}
    originals: dict[str, str] = {}
    for path in sorted(ROOT.glob('configs/aqd/*_r18_fpn_bn_1x_coco.py')):
        readers[path.stem] = partial(Config.fromfile, path)
    for path in sorted(ROOT.glob('configs/mix/*.py')):
        readers[path.stem] = partial(Config.fromfile, path)
        (originals[path.stem],) = re.findall(
            r"'mmdet::(.*)'", path.read_text()
        )
    for each in FOREIGN:
        name = Path(each).stem
        readers[name] = partial(_quantised_config, each)
        originals[name] = each
    originals.update((Path(path).stem, path) for path in ZOO_ONLY)
    result: list[Task] = [
        (Row(name, bits), read)
        for name, read in readers.items()
        for bits in WIDTHS
    ]
    for name, original in originals.items():
        row = Row(name, ZOO_BITS, Path(original).stem)
        result.append((row, partial(_zoo_config, original)))
    return result


def _zoo_config(path: str) -> Config:
    """Return a config of mmdet as tools/quantize.py reads it."""
    cfg = Config.fromstring(f"_base_ = 'mmdet::{path}'", '.py')
    use_own_heads(cfg)
    return cfg


def _quantised_config(path: str) -> Config:
    """Return a config of mmdet, quantised as in configs/mix."""
    recipe = [
        dict(modules='*', conv=dict(act_grid='signed')),
        dict(modules='*', add=dict(signed=True)),
    ]
    text = (
        f"_base_ = ['mmdet::{path}', '{BASES}/aqd_single_stage.py']\n"
        f"model = dict(type='aqd_mmdet.QuantizedDetector', "
        f"detector='{_zoo_config(path).model.type}', recipe={recipe})\n"
    )
    cfg = Config.fromstring(text, '.py')
    use_own_heads(cfg)
    base = Config.fromfile(BASES / 'aqd_resnet_fpn.py').aqd
    cfg.model.data_preprocessor.update(base.data_preprocessor)
    if cfg.model.backbone.type == 'ResNet':
        cfg.model.backbone.update(base.backbone)
    return cfg


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/models.md')
    parser.add_argument(
        '--cache',
        type=Path,
        default=Path('work_dirs/support_matrix.json'),
        help='file of the finished rows; those that it lacks are run, so '
        'remove from it what shall run again',
    )
    args = parser.parse_args()
    register_all_modules()
    args.cache.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = (
        json.loads(args.cache.read_text()) if args.cache.exists() else {}
    )
    results = []
    for row, read in progress(tasks(), desc='detectors', unit='row'):
        key = f'{row.name} {"zoo" if row.zoo else row.bits}'
        if key not in rows:
            rows[key] = asdict(check(row, read))
            write_whole(args.cache, json.dumps(rows, indent=1).encode())
        results.append(Row(**rows[key]))
    write_whole(args.out, document(results).encode())
    print(args.out)


def document(rows: list[Row]) -> str:
    """Return the matrix as Markdown.

    Args:
        rows: Results.
    """
    lines = [
        '# Detectors',
        '',
        '`tools/support_matrix.py` writes this table from its own runs. '
        'Each cell lists the',
        'bit widths at which a step passed. *equal*: the compiled program '
        'and integer-aware',
        'mode agree in every integer of every output. *engine*: the engine '
        'in C++ and the',
        'reference do. *zoo*: the config of MMDetection that it inherits, '
        'unchanged and with',
        'random weights, is quantised after training as by '
        '`tools/quantize.py --effort calibrate`,',
        'and engine and reference are equal. A dash: there is nothing to run.',
        '',
        f'| config | {" | ".join(STEPS)} |',
        f'|---|{"---|" * len(STEPS)}',
    ]
    failures: list[str] = []
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        if any(row.done for row in own):
            cells = ' | '.join(_cell(own, stage) for stage in STEPS)
            lines.append(f'| {name} | {cells} |')
        failures += dict.fromkeys(
            f'- **{row.zoo or name}**: {row.reason}'
            for row in own
            if row.reason
        )
    failures = list(dict.fromkeys(failures))
    lines += ['', 'Why the others failed:', '', *failures, '']
    return '\n'.join(lines)


def _cell(rows: list[Row], stage: str) -> str:
    """Return the widths at which one of a config's rows passed a step."""
    run = [row for row in rows if bool(row.zoo) == (stage == 'zoo')]
    if not run:
        return '\u2013'
    return ' '.join(str(row.bits) for row in run if stage in row.done)


if __name__ == '__main__':
    main()
