"""Reads configs: files, registered classes, datasets and labels."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file
from mmengine.registry import Registry

from .errors import UserError, first_line


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config file.

    Args:
        path: The config file.
        options: Overrides from ``--cfg-options``.

    Raises:
        UserError: If the file or one of its bases is missing or invalid.
    """
    if not Path(path).is_file():
        raise UserError(f'config {path}: no such file')
    try:
        cfg = Config.fromfile(path)
        if options:
            cfg.merge_from_dict(options)
    except UserError:
        raise
    except Exception as error:  # a config is code and can raise anything
        reason = first_line(error)
        raise UserError(
            f'config {path}: {type(error).__name__}: {reason}'
        ) from None
    if 'model' not in cfg:
        raise UserError(
            f'config {path}: it has no model; inherit from a config of '
            'configs/aqd'
        )
    # What a Runner does, but for a detector of which only the type and a file
    # may be left then.
    preprocessor = cfg.pop('data_preprocessor', None)
    if preprocessor is not None:
        cfg.model.setdefault('data_preprocessor', preprocessor)
    return cfg


def check_types(cfg: Config) -> None:
    """Check that parts of a config that are read here are of their kind.

    Args:
        cfg: The whole config.

    Raises:
        UserError: Naming the first that is not, and what it should be.
    """
    for name, value, kinds, expected in _typed(cfg):
        if value is not None and not isinstance(value, kinds):
            raise UserError(
                f'config {cfg.filename}: {name}={value!r}: expected {expected}'
            )


Typed = tuple[str, Any, type | tuple[type, ...], str]


def _typed(cfg: Config) -> Iterator[Typed]:
    """Yield parts of a config, those around others first."""
    for split in ('train', 'val', 'test'):
        where = f'{split}_dataloader'
        loader = cfg.get(where)
        yield where, loader, Mapping, 'a dict'
        for name, dataset in datasets_of(
            (loader or {}).get('dataset'), f'{where}.dataset'
        ):
            for key in ('data_prefix', 'metainfo'):
                yield f'{name}.{key}', dataset.get(key), Mapping, 'a dict'
            for key in ('ann_file', 'data_root'):
                text = dataset.get(key)
                yield f'{name}.{key}', text, (str, Path), 'a path as text'
            pipeline = dataset.get('pipeline')
            yield f'{name}.pipeline', pipeline, (list, tuple), 'a list'
            for index, transform in enumerate(pipeline or ()):
                own = f'{name}.pipeline.{index}'
                yield (
                    own,
                    transform,
                    Mapping,
                    "a dict such as dict(type='Pad')",
                )
    wrapper = cfg.get('optim_wrapper')
    yield 'optim_wrapper', wrapper, Mapping, 'a dict'
    for key in ('optimizer', 'paramwise_cfg'):
        part = (wrapper or {}).get(key)
        yield f'optim_wrapper.{key}', part, Mapping, 'a dict'


def write_apart(cfg: Config, word: str) -> None:
    """Let a runner write a config into the work_dir by a name of its own.

    The file of its name that may be there, a training's or what the config
    was read from, stays.

    Args:
        cfg: The whole config, changed in place.
        word: What is added to the name.
    """
    if cfg.filename is not None:
        name = Path(cfg.filename)
        own = name.with_stem(f'{name.stem}_{word}')
        object.__setattr__(cfg, '_filename', str(own))


def class_of(registry: Registry, kind: Any) -> Any:
    """Return the class that a config's ``type`` names, or None.

    Args:
        registry: Registry of the class.
        kind: Registered name; in configs of mmengine's newer style, the class
            itself.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def type_name(node: Mapping) -> str:
    """Return the name of a dict's ``type`` without its scope."""
    kind = node.get('type', '')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.split('.')[-1]


def datasets_of(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the datasets of a config, unwrapped.

    Args:
        node: Config of a dataset or of a wrapper (ConcatDataset,
            RepeatDataset, ClassBalancedDataset, ...).
        where: Dotted path of the node in the config.

    Yields:
        tuple: Dotted path and config of each dataset that reads annotations.
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
        dataset: A config that :func:`datasets_of` yields.
        where: Its dotted path.

    Raises:
        UserError: If ``classes`` is neither a sequence of distinct names nor
            a file of them.
    """
    metainfo = dataset.get('metainfo') or {}
    for key in metainfo:
        if key != 'classes' and str(key).lower() == 'classes':
            raise UserError(
                f'{where}.metainfo.{key}: MMDetection ignores this key; '
                "rename it to 'classes'"
            )
    classes = metainfo.get('classes')
    if classes is None:
        cls = class_of(DATASETS, dataset['type'])
        classes = cls.METAINFO.get('classes')
    if isinstance(classes, str):
        if not Path(classes).is_file():
            raise UserError(
                f'{where}.metainfo.classes={classes!r} is neither a file nor '
                'a sequence of names: for a single class '
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
                f'{where}.metainfo.classes names {name!r} twice: give each '
                'class one label'
            )
    return tuple(classes)


def labels_of(cfg: Config, split: str) -> tuple[str, ...] | None:
    """Return the class names of a split in the order of its labels.

    Args:
        cfg: The whole config.
        split: ``train``, ``val`` or ``test``.

    Returns:
        tuple: Class names; None if the split has no dataset that derives from
        mmengine's ``BaseDataset``, because other datasets have no names.

    Raises:
        UserError: If the datasets of the split disagree.
    """
    where = f'{split}_dataloader.dataset'
    loader = cfg.get(f'{split}_dataloader') or {}
    first_use: dict[tuple[str, ...], str] = {}
    for name, dataset in datasets_of(loader.get('dataset'), where):
        first_use.setdefault(classes_of(dataset, name), name)
    if not first_use:
        return None
    same_labels({name: classes for classes, name in first_use.items()})
    return next(iter(first_use))


def same_labels(labels: dict[str, tuple[str, ...]]) -> None:
    """Check that each label means the same class everywhere.

    Args:
        labels: For each source (a dataset's path, a checkpoint, ...), its
            class names in the order of labels.

    Raises:
        UserError: With two sources that disagree and the first label that
            differs.
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
