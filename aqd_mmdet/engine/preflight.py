"""Checks before a run: what can be known wrong is said before work starts."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch import nn

from ..config import (
    class_of,
    classes_of,
    datasets_of,
    labels_of,
    same_labels,
    type_name,
)
from ..errors import UserError, first_line
from .annotations import Use, check_annotations, labels_in
from .every_image import check_every_image

# Weights and an optimiser's two moments, in the checkpoint before and in
# the one being written, and something for logs.
CHECKPOINT_COPIES = 7
LOADERS = ('LoadImageFromFile', 'mmdet.LoadImageFromFile', LoadImageFromFile)


def use_whole_images(cfg: Config) -> None:
    """Let all pipelines of a config read images by LoadWholeImage.

    Args:
        cfg: The whole config, changed in place.
    """
    for part in cfg.values():
        _use_whole_images(part)


def _use_whole_images(node: Any) -> None:
    if isinstance(node, dict):
        if node.get('type') in LOADERS:
            node['type'] = 'aqd_mmdet.LoadWholeImage'
        for child in node.values():
            _use_whole_images(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _use_whole_images(child)


def need_data(cfg: Config, split: str, other: str) -> None:
    """Check that a config has data for a run.

    Args:
        cfg: The whole config.
        split: ``train``, ``val`` or ``test``.
        other: What the run needs besides them and its loop.

    Raises:
        UserError: If it has none.
    """
    if cfg.get(f'{split}_dataloader') is None:
        raise UserError(
            f'config {cfg.filename}: it has no {split}_dataloader; set it, '
            f'{split}_cfg and {other}'
        )


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Check annotation files, classes and evaluators of a config.

    Args:
        cfg: The whole config.
        splits: Of ``train``, ``val`` and ``test``.

    Raises:
        UserError: Naming file and first mistake.
    """
    splits = [s for s in splits if cfg.get(f'{s}_dataloader') is not None]
    labels: dict[str, tuple[str, ...]] = {}
    for split in splits:
        if not cfg[f'{split}_dataloader'].get('dataset'):
            raise UserError(
                f'config {cfg.filename}: {split}_dataloader has no dataset: '
                'give it one'
            )
        classes = labels_of(cfg, split)
        if classes is not None:
            labels[f'{split}_dataloader'] = classes
            check_classes(cfg.model, classes)
    if labels:
        same_labels(labels)
    for split in splits:
        evaluator = cfg.get(f'{split}_evaluator')
        metrics = list(_coco_metrics(evaluator))
        if any(
            metric.get('ann_file') and not metric.get('format_only')
            for metric in metrics
        ):
            check_every_image(cfg, split)
        files = _check_datasets(cfg, split, metrics)
        for metric, own in _with_files(evaluator, metrics, files):
            _check_ids(own, split)
            expected = labels[f'{split}_dataloader']
            _check_evaluator(metric, expected, own, split)


def check_label_order(cfg: Config, split: str) -> None:
    """Check that annotation files number labels as a config does.

    Files that are not there, as where a checkpoint is compiled on another
    machine than it was trained on, are passed over: the checkpoint knows its
    labels.

    Args:
        cfg: The whole config.
        split: ``train``, ``val`` or ``test``.

    Raises:
        UserError: Naming file and first label that differs.
    """
    for _, path, _, classes in _coco_files(cfg, split):
        found = labels_in(path, classes)
        if found is not None:
            where = f'{split}_dataloader'
            same_labels({where: classes, f'annotations {path}': found})


Files = dict[Path, dict[Any, str]]


def _check_datasets(cfg: Config, split: str, metrics: list[Any]) -> Files:
    """Check the files of a split's datasets and return their images."""
    # A metric without a file of its own is given what the dataset has parsed,
    # and numbers it anew: only files that a metric names are checked for it.
    evaluated = {Path(m['ann_file']) for m in metrics if m.get('ann_file')}
    files: Files = {}
    for dataset, path, images, classes in _coco_files(cfg, split):
        use = Use(
            trains=split == 'train',
            evaluates=path in evaluated,
            oriented=_is_oriented(dataset),
            masks=any(
                t.get('with_mask') for t in dataset.get('pipeline') or []
            ),
        )
        files[path] = check_annotations(path, images, classes, use)
    return files


def _coco_files(
    cfg: Config, split: str
) -> Iterator[tuple[Any, Path, Path, tuple[str, ...]]]:
    """Yield a split's datasets in COCO format on this machine's disk, each
    with its annotations, its images' folder and its classes."""
    where = f'{split}_dataloader.dataset'
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'the config has no {split}_dataloader')
    for name, dataset in datasets_of(loader.dataset, where):
        cls = class_of(DATASETS, dataset['type'])
        # LVIS and others derive from it, but read files of another format.
        reads_coco = cls.load_data_list is CocoDataset.load_data_list
        if reads_coco and not dataset.get('backend_args'):
            if not dataset.get('ann_file'):
                raise UserError(f'{name} has no ann_file: name its file')
            root = dataset.get('data_root') or ''
            prefix = (dataset.get('data_prefix') or {}).get('img', '')
            yield (
                dataset,
                Path(root, dataset.ann_file),
                Path(root, prefix),
                classes_of(dataset, name),
            )


def _is_oriented(dataset: Any) -> bool:
    pipeline = dataset.get('pipeline') or []
    kinds = [t.get('color_type', '') for t in pipeline if 'type' in t]
    return not any(str(kind).endswith('ignore_orientation') for kind in kinds)


def _coco_metrics(node: Any) -> Iterator[Any]:
    """Yield the configs of an evaluator's COCO metrics."""
    if isinstance(node, Mapping):
        cls = class_of(METRICS, node['type']) if 'type' in node else None
        if isinstance(cls, type) and issubclass(cls, CocoMetric):
            yield node
        else:
            yield from _coco_metrics(node.get('metrics'))
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _coco_metrics(child)


def _with_files(
    evaluator: Any, metrics: list[Any], files: Files
) -> Iterator[tuple[Any, Files]]:
    """Yield each metric with the files whose images it is given."""
    each = [{path: images} for path, images in files.items()]
    if not isinstance(evaluator, Mapping) or (
        type_name(evaluator) != 'MultiDatasetsEvaluator'
    ):
        each = [files] * len(metrics) if files else []
    # One for each dataset, in order; others than COCO's are not known here.
    if len(metrics) == len(each):
        yield from zip(metrics, each, strict=True)


def _check_ids(files: Files, split: str) -> None:
    """Check that images of several datasets can be told apart."""
    first: dict[Any, Path] = {}
    for path, images in files.items():
        for number in images:
            if number in first:
                raise UserError(
                    f'{split}_evaluator: image {number!r} is in '
                    f'{first[number]} and in {path}, and CocoMetric takes '
                    'both for one: number images of all datasets uniquely, '
                    'or take MultiDatasetsEvaluator'
                )
        first.update(dict.fromkeys(images, path))


def _check_evaluator(
    metric: Any, classes: tuple[str, ...], files: Files, split: str
) -> None:
    """Check that an evaluator compares with what the datasets hold."""
    name = metric.get('ann_file')
    if name is None or metric.get('backend_args'):
        return
    path = Path(name)
    found = files.get(path)
    if found is None or metric.get('sort_categories'):
        folder = path.parent  # of images, which are the datasets' affair
        use = Use(
            evaluates=not metric.get('format_only'),
            sorts=bool(metric.get('sort_categories')),
            has_images=False,
        )
        try:
            found = check_annotations(path, folder, classes, use)
        except UserError as error:
            raise UserError(f'{split}_evaluator: {error}') from None
    expected = {k: v for images in files.values() for k, v in images.items()}
    if found != expected:
        others = [k for k in found if found[k] != expected.get(k)]
        others += [k for k in expected if k not in found]
        raise UserError(
            f'{split}_evaluator.ann_file={name} is not of the images of '
            f'{split}_dataloader ({", ".join(map(str, files))}): they differ '
            f'in {len(others)}, such as image {others[0]!r}; give the same '
            'file to both'
        )


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
                f'{name}.num_classes={count!r}, but the dataset has '
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


def check_pipelines(runner: Runner, splits: Sequence[str]) -> None:
    """Read the first image of each dataset, as a run will.

    What a transform does not take is an error of the worker that reads, with
    a traceback; here it is one line.

    Args:
        runner: The runner; its loops and data loaders are built.
        splits: Of ``train``, ``val`` and ``test``.

    Raises:
        UserError: Naming what cannot be built, or the data loader and what
            its pipeline says.
    """
    for split in splits:
        if runner.cfg.get(f'{split}_dataloader') is None:
            continue
        dataset = _dataset_of(runner, split)
        try:
            dataset[0]
        except UserError:
            raise
        except Exception as error:  # of a transform's, of any kind
            reason = first_line(error)
            raise UserError(
                f'{split}_dataloader: its pipeline fails on the first image: '
                f'{type(error).__name__}: {reason}'
            ) from error


def _dataset_of(runner: Runner, split: str) -> Any:
    """Return a split's dataset; its loop is built with it."""
    name = f'{split}_dataloader'
    try:
        dataset = getattr(runner, name).dataset
    except UserError:
        raise
    except Exception as error:  # of a class of any package, of any kind
        parts = [name, f'{split}_cfg', f'{split}_evaluator']
        if split == 'train':  # which evaluates nothing
            parts.pop()
        raise UserError(
            f'config {runner.cfg.filename}: {" or ".join(parts)}: '
            f'{type(error).__name__}: {first_line(error)}'
        ) from error
    if hasattr(dataset, '__len__') and len(dataset) == 0:
        raise UserError(
            f'{name}: no image is left of its dataset: check filter_cfg '
            '(filter_empty_gt, min_size) and indices'
        )
    return dataset


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
