"""Train, quantise, compile and evaluate a detector on the embedded dataset.

An interrupted run resumes where it stopped. To start anew, remove the folder.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.utils import register_all_modules
from mmengine.config import Config
from PIL import Image
from torch import nn

from aqd_mmdet.engine import launch
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import write_whole
from aqd_mmdet.models.quantized_detector import quantized_layers
from aqd_mmdet.program.detector import BOX_BITS, SCORE_BITS
from aqd_mmdet.runtime import Detector
from aqd_mmdet.visualization import Box, draw_comparison

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs' / 'digits'
DATA = Path('data/digits')
# Lowest score to draw. At this threshold, precision and recall are balanced on
# the validation scenes.
SCORE_THRESHOLD = 0.3
ROWS_PER_PICTURE, PICTURES = 4, 2
# Number of scenes on which the program is compared with the simulation.
VERIFY_IMAGES = 10


@dataclass(frozen=True)
class Outcome:
    """Accuracy, size and times of one detector.

    Attributes:
        bbox_mAP: COCO AP on the validation scenes, 0 to 1.
        bbox_mAP_50: COCO AP at IoU 0.5.
        weight_bytes: Size of the parameters: weights of quantised layers at
            their bit width, all others at 4 bytes. For the integer program,
            the size of its file.
        made_seconds: Time of training; 0 if an earlier run trained it. For the
            integer program, the time to compile, verify and evaluate it.
        test_seconds: Time of evaluation; None for the integer program.
    """

    bbox_mAP: float
    bbox_mAP_50: float
    weight_bytes: int
    made_seconds: float
    test_seconds: float | None


def say(text: str) -> None:
    print(f'\n== {text}', flush=True)


def run_tool(name: str, *arguments: object) -> float:
    """Run a tool in its own process and return the elapsed seconds."""
    start = time.monotonic()
    command = [sys.executable, str(TOOLS / name), *map(str, arguments)]
    code = subprocess.run(command).returncode
    if code:
        raise SystemExit(code)
    return round(time.monotonic() - start, 1)


def train(
    config: Path, work_dir: Path, options: list[str]
) -> tuple[Path, float]:
    """Train or resume; return the last checkpoint and the elapsed seconds."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(o.split('=', 1) for o in options))
    last = work_dir / f'epoch_{int(cfg.train_cfg.max_epochs)}.pth'
    # A file that was cut off is not noted: mmengine does so after it.
    if launch.latest_checkpoint(str(work_dir)) == str(last):
        print(f'{last} exists: an earlier run trained the detector')
        return last, 0.0
    arguments = ['--cfg-options', *options] if options else []
    return last, run_tool(
        'train.py', config, '--work-dir', work_dir, '--resume', *arguments
    )


def evaluate(
    config: Path, checkpoint: Path, work_dir: Path
) -> tuple[dict, float]:
    """Run COCO evaluation; return the metrics and the elapsed seconds."""
    seconds = run_tool('test.py', config, checkpoint, '--work-dir', work_dir)
    newest = max(work_dir.glob('*/*.json'), key=lambda p: p.stat().st_mtime)
    return json.loads(newest.read_text()), seconds


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a detector's parameters at their bit widths."""
    bits = 32 * sum(p.numel() for p in model.parameters())
    for layer in quantized_layers(model).values():
        width = layer.weight_quantizer.grid.bits
        bits -= (32 - width) * layer.weight.numel()
    return bits // 8


def truth(annotations: dict, image_id: int) -> list[Box]:
    """Return the ground-truth boxes of an image."""
    return [
        Box(*a['bbox'], a['category_id'], str(a['category_id']))
        for a in annotations['annotations']
        if a['image_id'] == image_id
    ]


def detect(model: nn.Module, image: np.ndarray) -> list[Box]:
    """Return the boxes that a detector finds in an RGB image."""
    result = inference_detector(model, image[..., ::-1])
    detections = result.pred_instances.cpu()
    boxes = []
    for (x0, y0, x1, y1), label, score in zip(
        detections.bboxes.tolist(),
        detections.labels.tolist(),
        detections.scores.tolist(),
        strict=True,
    ):
        if score >= SCORE_THRESHOLD:
            boxes.append(
                Box(x0, y0, x1 - x0, y1 - y0, label, f'{label} {score:.2f}')
            )
    return boxes


def detect_on_integers(detector: Detector, image: np.ndarray) -> list[Box]:
    """Return the boxes that a compiled detector finds in an RGB image."""
    boxes = []
    for corners, label, units in zip(*detector(image), strict=True):
        score = units / 2**SCORE_BITS
        if score >= SCORE_THRESHOLD:
            x0, y0, x1, y1 = (corners / 2**BOX_BITS).tolist()
            name = f'{label} {score:.2f}'
            boxes.append(Box(x0, y0, x1 - x0, y1 - y0, int(label), name))
    return boxes


def compile_to_integers(config: Path, checkpoint: Path, out: Path) -> Outcome:
    """Compile a detector, compare it with the simulation and evaluate it."""
    images = sorted((DATA / 'val').glob('*.png'))[:VERIFY_IMAGES]
    seconds = run_tool(
        'convert.py', config, checkpoint, '--out', out / 'model.aqd',
        '--work-dir', out / 'integer_test', '--evaluate', '--verify', *images,
    )  # fmt: skip
    report = json.loads((out / 'model.json').read_text())
    return Outcome(
        report['metrics']['coco/bbox_mAP'],
        report['metrics']['coco/bbox_mAP_50'],
        report['sizes']['packed'],
        seconds,
        None,
    )


Find = Callable[[np.ndarray], list[Box]]


def draw(out: Path, finders: dict[str, Find]) -> list[Path]:
    """Draw ground truth and detections of some validation scenes."""
    annotations = json.loads((DATA / 'val.json').read_text())
    paths = []
    for page in range(PICTURES):
        first = page * ROWS_PER_PICTURE
        entries = annotations['images'][first : first + ROWS_PER_PICTURE]
        images = [
            np.asarray(Image.open(DATA / 'val' / entry['file_name']))
            for entry in entries
        ]
        columns = {'truth': [truth(annotations, e['id']) for e in entries]}
        for title, find in finders.items():
            columns[title] = [find(image) for image in images]
        paths.append(out / f'detections_{page}.png')
        draw_comparison(paths[-1], images, columns)
    return paths


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/quickstart')
    )
    out = parser.parse_args().out
    register_all_modules()
    start = time.monotonic()
    say('the dataset: scenes of real handwritten digits')
    run_tool('make_digits.py', '--out', DATA)
    outcomes: dict[str, Outcome] = {}
    finders: dict[str, Find] = {}
    checkpoint, outcomes['float'], model = train_and_evaluate(
        CONFIGS / 'retinanet_digits_fp.py', 'float', 'float', out, []
    )
    finders['float'] = partial(detect, model)
    config = CONFIGS / 'retinanet_digits_2bit.py'
    checkpoint, outcomes['w2a2'], model = train_and_evaluate(
        config, 'w2a2', '2 bits', out, [f'load_from={checkpoint}']
    )
    finders['2 bits'] = partial(detect, model)
    say('compiling to integers')
    outcomes['integer'] = compile_to_integers(config, checkpoint, out)
    finders['integers'] = partial(
        detect_on_integers, Detector(out / 'model.aqd')
    )
    say('pictures')
    pictures = draw(out, finders)
    summary = {name: asdict(o) for name, o in outcomes.items()}
    text = f'{json.dumps(summary, indent=2)}\n'
    write_whole(out / 'summary.json', text.encode())
    print_table(outcomes)
    for path in (*pictures, out / 'summary.json'):
        print(path)
    print(f'{time.monotonic() - start:.0f} s in all')


def train_and_evaluate(
    config: Path, name: str, title: str, out: Path, options: list[str]
) -> tuple[Path, Outcome, nn.Module]:
    """Train and evaluate one detector.

    Args:
        config: Its config.
        name: Name of its folder in ``out``.
        title: Name in messages.
        out: Folder of the run.
        options: Overrides for ``--cfg-options``.

    Returns:
        tuple: The checkpoint, the results and the detector.
    """
    say(f'training: {title}')
    checkpoint, train_seconds = train(config, out / name, options)
    say(f'COCO evaluation: {title}')
    metrics, test_seconds = evaluate(config, checkpoint, out / f'{name}_test')
    if 'coco/bbox_mAP' not in metrics:
        raise UserError(
            f'{checkpoint}: the detector finds no object; remove {out} and '
            'run again'
        )
    model = init_detector(
        str(config),
        str(checkpoint),
        device='cuda' if torch.cuda.is_available() else 'cpu',
    )
    outcome = Outcome(
        metrics['coco/bbox_mAP'],
        metrics['coco/bbox_mAP_50'],
        weight_bytes(model),
        train_seconds,
        test_seconds,
    )
    return checkpoint, outcome, model


def print_table(outcomes: dict[str, Outcome]) -> None:
    print(
        f'\n{"":8}{"AP":>8}{"AP50":>8}{"weights":>12}{"made in":>9}{"test":>8}'
    )
    for name, o in outcomes.items():
        test = '' if o.test_seconds is None else f'{o.test_seconds:.0f}s'
        print(
            f'{name:8}{o.bbox_mAP:8.3f}{o.bbox_mAP_50:8.3f}'
            f'{o.weight_bytes / 1024:8.0f} KiB{o.made_seconds:8.0f}s{test:>8}'
        )


if __name__ == '__main__':
    main()
