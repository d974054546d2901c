"""Reading configs: files, the classes they name, datasets and labels."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file
from mmengine.registry import Registry

from .errors import UserError


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


def class_of(registry: Registry, kind: Any) -> Any:
    """Return the class that a ``type`` of a config names, None if none.

    Args:
        registry: Where it is registered.
        kind: Its name, as mmengine looks it up; or, in configs of the newer
            style, the class itself.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def type_name(node: Mapping) -> str:
    """Return the name of a dict's ``type``, without a scope."""
    kind = node.get('type', '')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.split('.')[-1]


def datasets_of(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the datasets in a config that read annotations themselves.

    Args:
        node: Config of a dataset, or of one that wraps others
            (ConcatDataset, RepeatDataset, ClassBalancedDataset, ...).
        where: How the config calls it.

    Yields:
        tuple: Name and config of each.
    """
    if isinstance(node, Mapping):
        cls = class_of(DATASETS, node['type']) if 'type' in node else None
        if isinstance(cls, type) and issubclass(cls, BaseDataset):
            yield where, node
            return
        for key, child in node.items():
            if key != 'pipeline':
                yield from datasets_of(child, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from datasets_of(child, f'{where}.{index}')


def classes_of(dataset: Any, where: str) -> tuple[str, ...]:
    """Return the class names of a dataset's config.

    Args:
        dataset: Of :func:`datasets_of`.
        where: How the config calls it.

    Raises:
        UserError: If they are not a list of different names, or of a file.
    """
    metainfo = dataset.get('metainfo') or {}
    for key in metainfo:
        if key != 'classes' and str(key).lower() == 'classes':
            raise UserError(
                f'{where}.metainfo.{key}: MMDetection reads it by the name '
                "'classes' alone; rename it"
            )
    classes = metainfo.get('classes')
    if classes is None:
        cls = class_of(DATASETS, dataset['type'])
        classes = cls.METAINFO.get('classes')
    if isinstance(classes, str):
        if not Path(classes).is_file():
            raise UserError(
                f'{where}.metainfo.classes={classes!r} is one string and no '
                'file, in which MMDetection would find parts of names: '
                f'write ({classes!r},)'
            )
        classes = list_from_file(classes)
    if not isinstance(classes, Sequence) or not all(
        isinstance(name, str) for name in classes
    ):
        raise UserError(
            f'{where}.metainfo.classes={classes!r}: expected a tuple of names'
        )
    for name in classes:
        if list(classes).count(name) > 1:
            raise UserError(
                f'{where}.metainfo.classes names {name!r} twice: a class has '
                'one label'
            )
    return tuple(classes)


def labels_of(cfg: Config, split: str) -> tuple[str, ...] | None:
    """Return the class names that a split's labels are numbered by.

    None if no dataset of it is one of mmengine's, which alone have names.

    Args:
        cfg: The whole config.
        split: ``train``, ``val`` or ``test``.

    Raises:
        UserError: If its datasets do not agree.
    """
    where = f'{split}_dataloader.dataset'
    loader = cfg.get(f'{split}_dataloader') or {}
    found: dict[tuple[str, ...], str] = {}
    for name, dataset in datasets_of(loader.get('dataset'), where):
        found.setdefault(classes_of(dataset, name), name)
    if not found:
        return None
    same_labels({name: classes for classes, name in found.items()})
    return next(iter(found))


def same_labels(labels: dict[str, tuple[str, ...]]) -> None:
    """Check that labels mean the same everywhere.

    Args:
        labels: Class names in the order of labels, by where they stand.

    Raises:
        UserError: Naming the two places that do not agree, and the first
            label that differs.
    """
    (first, expected), *others = labels.items()
    for where, classes in others:
        if classes == expected:
            continue
        pairs = enumerate(zip(expected, classes, strict=False))
        number = next(
            (i for i, (a, b) in pairs if a != b),
            min(len(expected), len(classes)),
        )
        a, b = (
            repr(names[number]) if number < len(names) else 'missing'
            for names in (expected, classes)
        )
        raise UserError(
            f'label {number} is {a} by {first}, but {b} by {where}: give '
            'the same classes in the same order'
        )
