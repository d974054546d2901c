"""Checks before a run: what can be known wrong is said before work starts."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from torch import nn

from ..errors import UserError, nearest

# A box may reach over the image's border by rounding or by intent (objects
# cut off); one that has less than this share of itself inside is a mistake.
MIN_INSIDE = 0.5
# Weights and an optimiser's two moments, in the checkpoint before and in
# the one being written, and something for logs.
CHECKPOINT_COPIES = 7


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config file.

    Args:
        path: The config.
        options: Overrides of ``--cfg-options``.

    Raises:
        UserError: If it, or one it inherits from, is missing or not valid.
    """
    if not Path(path).is_file():
        raise UserError(f'config {path}: no such file')
    try:
        cfg = Config.fromfile(path)
        if options:
            cfg.merge_from_dict(options)
    except UserError:
        raise
    except Exception as error:  # a config is code: anything can go wrong
        reason = (str(error).strip().splitlines() or [''])[0]
        raise UserError(
            f'config {path}: {type(error).__name__}: {reason}'
        ) from None
    if 'model' not in cfg:
        raise UserError(
            f'config {path}: it has no model; inherit from one of configs/aqd'
        )
    return cfg


def use_whole_images(cfg: Config) -> None:
    """Let all pipelines of a config read images by LoadWholeImage.

    Args:
        cfg: The whole config, changed in place.
    """
    for part in cfg.values():
        _use_whole_images(part)


def _use_whole_images(node: Any) -> None:
    if isinstance(node, dict):
        if node.get('type') in (
            'LoadImageFromFile',
            'mmdet.LoadImageFromFile',
        ):
            node['type'] = 'aqd_mmdet.LoadWholeImage'
        for child in node.values():
            _use_whole_images(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _use_whole_images(child)


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Check annotation files and classes of a config.

    Args:
        cfg: The whole config.
        splits: Of ``train``, ``val`` and ``test``.

    Raises:
        UserError: Naming file and first mistake.
    """
    checked = set()
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        for dataset in _coco_datasets(loader.get('dataset')):
            classes = classes_of(dataset)
            path, images = _places(dataset)
            check_classes(cfg.model, classes)
            if (path, images, classes) not in checked:
                checked.add((path, images, classes))
                check_annotations(path, images, classes)


def _coco_datasets(node: Any) -> Iterator[ConfigDict]:
    if isinstance(node, dict):
        cls = DATASETS.get(node['type']) if 'type' in node else None
        # LVIS and others derive from it, but read files of another format.
        reads_coco = getattr(cls, 'load_data_list', None)
        if reads_coco is CocoDataset.load_data_list:
            yield node
        else:
            for child in node.values():
                yield from _coco_datasets(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _coco_datasets(child)


def classes_of(dataset: ConfigDict) -> tuple[str, ...]:
    """Return the class names of a dataset's config."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = DATASETS.get(dataset.type).METAINFO['classes']
    return (classes,) if isinstance(classes, str) else tuple(classes)


def _places(dataset: ConfigDict) -> tuple[Path, Path]:
    root = dataset.get('data_root') or ''
    prefix = (dataset.get('data_prefix') or {}).get('img', '')
    return Path(root, dataset.ann_file), Path(root, prefix)


def check_classes(model: ConfigDict, classes: Sequence[str]) -> None:
    """Check that a model's heads have an output for each class.

    Args:
        model: Config of the model.
        classes: Class names of a dataset.

    Raises:
        UserError: Naming the head and both numbers.
    """
    for name, count in _num_classes(model, 'model'):
        if count != len(classes):
            raise UserError(
                f'{name}.num_classes={count}, but the dataset has '
                f'{len(classes)} classes ({", ".join(classes[:3])}, ...): '
                f'set {name}.num_classes={len(classes)}, or metainfo.classes'
            )


def _num_classes(node: Any, name: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, dict):
        for key, child in node.items():
            # An RPN tells objects from background, whatever the classes.
            if key == 'num_classes':
                yield name, child
            elif key not in ('rpn_head', 'train_cfg', 'test_cfg', 'backbone'):
                yield from _num_classes(child, f'{name}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from _num_classes(child, f'{name}.{index}')


def check_annotations(
    path: Path, images: Path, classes: Sequence[str]
) -> None:
    """Check a COCO annotation file.

    Args:
        path: The file.
        images: Folder of its images.
        classes: Class names that a config gives for it.

    Raises:
        UserError: Naming the file and its first mistake.
    """
    if not path.is_file():
        hint = (
            '; python tools/make_digits.py makes the embedded dataset'
            if path.parent.name == 'digits'
            else ' (set data_root and ann_file)'
        )
        raise UserError(f'annotations {path}: no such file{hint}')
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'annotations {path}: not JSON ({error})') from None
    where = f'annotations {path}:'
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(
            content.get(key), list
        ):
            raise UserError(f'{where} not in COCO format: no list {key!r}')
    try:
        _check_content(content, images, classes, where)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f'{where} not in COCO format: an entry lacks or misuses {error}'
        ) from None


def _check_content(
    content: dict, folder: Path, classes: Sequence[str], where: str
) -> None:
    names = {c['id']: c['name'] for c in content['categories']}
    for name in classes:
        if name not in names.values():
            raise UserError(
                f'{where} class {name!r} of the config is not among its '
                f'categories ({nearest(name, names.values())}): set '
                'metainfo.classes'
            )
    sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
    for entry in content['annotations']:
        label = f'annotation {entry["id"]}'
        if entry['category_id'] not in names:
            raise UserError(
                f'{where} {label} has category {entry["category_id"]!r}, '
                f'which is not among its categories {sorted(names)[:8]}'
            )
        if entry['image_id'] not in sizes:
            raise UserError(
                f'{where} {label} is of image '
                f'{entry["image_id"]!r}, which is not there'
            )
        x, y, width, height = entry['bbox']
        across, down = sizes[entry['image_id']]
        inside = max(0, min(x + width, across) - max(x, 0)) * max(
            0, min(y + height, down) - max(y, 0)
        )
        if inside < MIN_INSIDE * width * height:
            raise UserError(
                f'{where} {label} has its box {entry["bbox"]} outside its '
                f'image of {across} x {down}: boxes are x, y, width, height '
                'in pixels'
            )
    listed = (
        {entry.name for entry in os.scandir(folder)}
        if folder.is_dir()
        else set()
    )
    for image in content['images']:
        name = image['file_name']
        if name not in listed and not (folder / name).is_file():
            raise UserError(
                f'{where} image {folder / name} does not exist '
                '(set data_prefix.img)'
            )


def make_work_dir(work_dir: Path) -> None:
    """Make the folder that a run writes to.

    Args:
        work_dir: The folder; it may be there already.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'work_dir {work_dir}: {error.strerror}; choose another --work-dir'
        ) from None


def check_space(work_dir: Path, model: nn.Module) -> None:
    """Check that a run's checkpoints fit on the disk.

    Args:
        work_dir: Where they will be written.
        model: What will be saved.

    Raises:
        UserError: If the folder has too little space.
    """
    size = sum(
        t.numel() * t.element_size() for t in model.state_dict().values()
    )
    needed = CHECKPOINT_COPIES * size
    free = shutil.disk_usage(work_dir).free
    if free < needed:
        raise UserError(
            f'work_dir {work_dir}: {free / 2**20:.0f} MiB are free, its '
            f'checkpoints need {needed / 2**20:.0f}: make room, or choose '
            'another --work-dir'
        )
