"""What quantisation after training starts from: a detector and pictures."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor, nn

from ..compiler.compile import compile_detector, read_test_preprocess
from ..compiler.images import image_mean
from ..config import datasets_of
from ..errors import UserError, first_line
from ..files import check_folder
from ..from_onnx.detector import import_onnx
from ..models.heads import use_own_heads
from ..models.quantized_detector import quantized_layers
from ..post_training.quantize import DEFAULT_EFFORT, quantize
from ..post_training.recipe import find_recipe
from ..post_training.stems import find_stems, fold_preprocessor
from ..program.detector import CompiledDetector
from ..progress import progress
from ..runtime.images import read_image
from ..runtime.preprocess import check_image, prepare
from ..runtime.sources import SUFFIXES, is_picture
from . import launch
from .checkpoint import downloaded

# Enough to place ranges; more teach more.
MAX_PICTURES = 200
ONNX = '.onnx'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint and the pictures to a tool's arguments.

    Arguments are parsed by ``parse_intermixed_args``, since the checkpoint
    may be left out.
    """
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint of the float detector, or its URL; none where an '
        'ONNX file stands in the place of the config',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        default=[],
        metavar='NAME',
        help='names of the classes of an ONNX file, in order, or one file '
        "with a name on each line; default: those in its metadata, or COCO's",
    )
    parser.add_argument(
        '--images',
        type=Path,
        help="folder of pictures, without annotations; default: the config's "
        'training pictures',
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=MAX_PICTURES,
        help='how many of them are used',
    )


def use_onnx(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Let an ONNX file stand for a config and a checkpoint.

    Both are written to the work_dir, and are the arguments from then on. A
    checkpoint that is a URL is downloaded.

    Args:
        args: Of :func:`add_arguments` and :func:`.launch.parser`; changed in
            place.
        say: Told what was found in the file.

    Raises:
        UserError: If the file is not understood, or arguments do not fit.
    """
    path = Path(args.config)
    if path.suffix.lower() != ONNX:
        if args.checkpoint is None:
            raise UserError(
                f'{path}: give its checkpoint as well; an ONNX file alone '
                'needs none'
            )
        if Path(args.checkpoint).suffix.lower() == ONNX:
            raise UserError(
                f'{args.checkpoint}: give the ONNX file alone; its config is '
                'made of its graph'
            )
        if args.classes:
            raise UserError(
                '--classes: names for an ONNX file, which has none; a config '
                'has its own (metainfo.classes of its datasets)'
            )
        args.checkpoint = downloaded(args.checkpoint)
        return
    if args.checkpoint is not None:
        raise UserError(
            f'{args.checkpoint}: {path} has its weights in it; leave the '
            'checkpoint out'
        )
    if args.images is None:
        raise UserError(
            f'{path}: an ONNX file knows no training pictures: give --images'
        )
    folder = Path(args.work_dir or Path('work_dirs', path.stem))
    check_folder('--work-dir', folder)
    # It needs no config, and refuses what it would refuse after the import.
    find_pictures(Config(), args.images, args.max_images)
    config, checkpoint = import_onnx(path, folder, args.classes, say)
    args.config, args.checkpoint = str(config), str(checkpoint)


def quantize_checkpoint(
    config: str | Path,
    checkpoint: str,
    images: str | Path | None = None,
    bits: int = 8,
    act_bits: int = 8,
    effort: str = DEFAULT_EFFORT,
) -> CompiledDetector:
    """Return the integer program of a float checkpoint.

    It is ``tools/quantize.py`` in one call. The program detects by
    ``aqd_mmdet.runtime.Detector(compiled)``, and is written to a file by
    ``aqd_mmdet.program.file.save(compiled, path)``.

    Args:
        config: The float detector's config file.
        checkpoint: File of its weights, or its URL.
        images: Folder of unlabelled pictures; None for the config's training
            pictures.
        bits: Width of weights, 2 to 8.
        act_bits: Width of activations, 2 to 8.
        effort: One of :data:`aqd_mmdet.post_training.quantize.EFFORTS`.

    Raises:
        UserError: If one of them cannot be read, or they do not fit.
    """
    args = launch.parser('').parse_args([str(config)])
    cfg = launch.read_config(args)
    use_own_heads(cfg)
    paths = find_pictures(cfg, images, MAX_PICTURES)
    start = start_from(load_float(cfg, checkpoint), cfg, paths)
    recipe = find_recipe(start.detector, start.stems, bits, act_bits)
    student = quantize(start.detector, recipe, start.pictures, effort).detector
    return compile_detector(student, cfg, print).compiled


@dataclass(frozen=True)
class Start:
    """What quantisation after training starts from.

    Attributes:
        detector: The float detector, its preprocessor folded.
        stems: As :func:`~..post_training.stems.find_stems` returns them.
        pictures: Of :func:`read_pictures`.
    """

    detector: nn.Module
    stems: dict[str, nn.Conv2d]
    pictures: list[Tensor]


def start_from(detector: Any, cfg: Config, paths: Sequence[Path]) -> Start:
    """Fold a float detector's preprocessor, and read pictures for it.

    Args:
        detector: The detector; changed in place.
        cfg: The whole config.
        paths: Files of the pictures.

    Raises:
        UserError: If the preprocessor cannot be folded, or a picture cannot
            be read.
    """
    stems = find_stems(detector)
    fold_preprocessor(detector, stems)
    return Start(detector, stems, read_pictures(paths, detector, cfg))


def load_float(cfg: Config, checkpoint: str) -> nn.Module:
    """Return the float detector of a config with a checkpoint's weights.

    Args:
        cfg: The whole config.
        checkpoint: File of the checkpoint, or its URL.

    Raises:
        UserError: If the config is of a quantised detector, or the checkpoint
            does not fit.
    """
    detector = launch.build_detector(cfg)
    if quantized_layers(detector):
        raise UserError(
            'the config is of a quantised detector: tools/convert.py compiles '
            'it; give the config of the float one'
        )
    launch.load_weights(detector, cfg, checkpoint)
    return detector


def find_pictures(
    cfg: Config, folder: str | Path | None, most: int
) -> list[Path]:
    """Return the files of pictures to calibrate with, drawn at random.

    Args:
        cfg: The whole config.
        folder: Folder of the pictures, which are found at any depth; None for
            the config's training pictures.
        most: Largest number of pictures.

    Raises:
        UserError: If there is no picture.
    """
    if most < 1:
        raise UserError(
            f'--max-images {most}: give the number of pictures, at least 1'
        )
    if folder is None:
        paths = [
            Path(dataset.get_data_info(index)['img_path'])
            for dataset in _training_datasets(cfg)
            for index in range(len(dataset))
        ]
        where = "the config's training data"
    elif Path(folder).is_dir():
        files = (path for path in Path(folder).rglob('*') if path.is_file())
        # What tools/infer.py drew shows boxes, and may lie in the same folder.
        paths = sorted(filter(is_picture, files))
        where = f'--images {folder}'
    else:
        raise UserError(f'--images {folder}: there is no such folder')
    if not paths:
        raise UserError(f'{where}: no picture in it ({", ".join(SUFFIXES)})')
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(paths), generator=generator)[:most]
    return [paths[i] for i in order.tolist()]


def _training_datasets(cfg: Config) -> list[Any]:
    """Build a config's training datasets without their pipelines."""
    where = 'train_dataloader.dataset'
    loader = cfg.get('train_dataloader')
    if not loader:
        raise UserError(
            'the config has no train_dataloader with pictures to calibrate '
            'with: give a folder of pictures, --images'
        )
    try:
        return [
            DATASETS.build({**dataset, 'pipeline': []})
            for _, dataset in datasets_of(loader.dataset, where)
        ]
    except FileNotFoundError as error:
        raise UserError(
            f"the config's training pictures are not here ({error.filename}): "
            'give a folder of pictures, --images'
        ) from None
    except Exception as error:  # of a dataset's, of any kind
        raise UserError(
            "the config's training data cannot be read "
            f'({type(error).__name__}: {first_line(error)}): give a folder '
            'of pictures, --images'
        ) from error


def read_pictures(
    paths: Sequence[Path], detector: Any, cfg: Config
) -> list[Tensor]:
    """Return pictures as the network is given them, float (1, 3, H, W).

    Args:
        paths: Files of the pictures.
        detector: The float detector, its preprocessor folded.
        cfg: The whole config.
    """
    pre = read_test_preprocess(detector.data_preprocessor, cfg)
    stride = int(detector.data_preprocessor.pad_size_divisor)
    mean = torch.tensor(image_mean(detector.data_preprocessor))[:, None, None]
    pictures = []
    for path in progress(paths, desc='reading', unit='picture'):
        image = read_image(path, pre.oriented)
        check_image(image, f'image {path}')
        array, _ = prepare(image, pre, stride)
        pictures.append(torch.from_numpy(array).float() - mean)
    return pictures
