"""What quantisation after training starts from: a detector and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn

from ..compiler.compile import read_test_preprocess
from ..compiler.images import image_mean
from ..config import datasets_of
from ..errors import UserError
from ..models.quantized_detector import quantized_layers
from ..progress import progress
from ..runtime.images import read_image
from ..runtime.preprocess import check_image, prepare
from .launch import load_weights

# Enough to place ranges; more teach more.
MAX_PICTURES = 200
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')


def load_float(cfg: Config, checkpoint: str) -> nn.Module:
    """Return the float detector of a config with a checkpoint's weights.

    Args:
        cfg: The whole config.
        checkpoint: File of the checkpoint.

    Raises:
        UserError: If the config is of a quantised detector, or the checkpoint
            does not fit.
    """
    detector = MODELS.build(cfg.model).eval()
    if quantized_layers(detector):
        raise UserError(
            'the config is of a quantised detector: tools/convert.py compiles '
            'it; give the config of the float one'
        )
    load_weights(detector, cfg, checkpoint)
    return detector


def find_pictures(cfg: Config, folder: Path | None, most: int) -> list[Path]:
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
    elif folder.is_dir():
        paths = sorted(
            path
            for path in folder.rglob('*')
            if path.suffix.lower() in SUFFIXES
        )
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
    outer = cfg.train_dataloader.dataset
    return [
        DATASETS.build({**dataset, 'pipeline': []})
        for _, dataset in datasets_of(outer, where)
    ]


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
