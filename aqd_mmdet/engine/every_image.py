"""Checks that an evaluation sees every image of its datasets once.

CocoMetric scores all images of its file: one that was left out counts as an
image without detections, one that came twice has each detection twice.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.config import Config
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    DefaultSampler,
    RepeatDataset,
)

from ..config import class_of, datasets_of, type_name
from ..errors import UserError

REPEAT = (RepeatDataset, ClassBalancedDataset)


def check_every_image(cfg: Config, split: str) -> None:
    """Check that each image of a split is read once.

    Args:
        cfg: The whole config.
        split: ``val`` or ``test``.

    Raises:
        UserError: Naming the first option that leaves out or repeats images.
    """
    where = f'{split}_dataloader'
    loader = cfg[where]
    for part in ('', '.batch_sampler'):
        node = loader if not part else loader.get('batch_sampler') or {}
        if node.get('drop_last'):
            raise _error(
                f'{where}{part}.drop_last=True', 'leaves out images', 'False'
            )
    sampler = loader.get('sampler') or {}
    if 'type' in sampler and not _is_a(
        class_of(DATA_SAMPLERS, sampler['type']), DefaultSampler
    ):
        raise _error(
            f'{where}.sampler.type={type_name(sampler)}',
            'is not known to give each image once',
            'DefaultSampler',
        )
    for name, node in _wrappers(loader.dataset, f'{where}.dataset'):
        if _is_a(class_of(DATASETS, node['type']), REPEAT):
            raise _error(
                f'{name}.type={type_name(node)}',
                'repeats images',
                'the dataset that it wraps',
            )
    for name, dataset in datasets_of(loader.dataset, f'{where}.dataset'):
        _check_dataset(dataset, name)


def _check_dataset(dataset: Any, name: str) -> None:
    indices = dataset.get('indices')
    if indices is not None:
        shown = indices if isinstance(indices, int) else '[...]'
        raise _error(f'{name}.indices={shown}', 'leaves out images', 'None')
    filters = any((dataset.get('filter_cfg') or {}).values())
    if filters and not dataset.get('test_mode'):
        raise _error(
            f'{name}.filter_cfg without test_mode=True',
            'leaves out images',
            'test_mode=True',
        )


def _error(option: str, what: str, other: str) -> UserError:
    return UserError(
        f'{option} {what}, and CocoMetric scores all images of its file: set '
        f'{other}; for an AP of some images, give annotations of these alone'
    )


def _is_a(cls: Any, bases: type | tuple[type, ...]) -> bool:
    return isinstance(cls, type) and issubclass(cls, bases)


def _wrappers(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield what has a type around the datasets of a config."""
    if isinstance(node, Mapping):
        if 'type' in node:
            if _is_a(class_of(DATASETS, node['type']), BaseDataset):
                return
            yield where, node
        for key, child in node.items():
            yield from _wrappers(child, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from _wrappers(child, f'{where}.{index}')
