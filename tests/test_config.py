"""Configs: files, registered classes, datasets and labels."""

import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from aqd_mmdet.config import (
    check_types,
    class_of,
    classes_of,
    datasets_of,
    labels_of,
    read_config,
    same_labels,
    type_name,
    write_apart,
)
from aqd_mmdet.errors import UserError
from tests.factories import digits_config


@pytest.mark.parametrize(
    'text, message',
    [
        ('model = ', 'SyntaxError'),
        ("_base_ = './no.py'", r'no\.py'),
        ('x = 1', 'has no model'),
        ('model = undefined', 'undefined'),
    ],
)
def test_bad_configs(tmp_path, text, message):
    path = tmp_path / 'c.py'
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_config(str(path))
    assert str(path) in str(caught.value)


def test_missing_config():
    with pytest.raises(UserError, match=r'config no\.py: no such file'):
        read_config('no.py')


def test_a_config_is_written_by_a_name_of_its_own(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text('model = dict()')
    cfg = Config.fromfile(path)
    write_apart(cfg, 'other')
    assert cfg.filename == str(tmp_path / 'c_other.py')
    cfg = Config()
    write_apart(cfg, 'other')
    assert cfg.filename is None


def test_types_are_names_or_classes():
    from mmdet.datasets.transforms import Resize

    assert class_of(TRANSFORMS, 'Resize') is Resize
    assert class_of(TRANSFORMS, 'mmdet.Resize') is Resize
    assert class_of(TRANSFORMS, Resize) is Resize
    assert class_of(TRANSFORMS, 'NoSuchTransform') is None
    for kind in ('Resize', 'mmdet.Resize', Resize):
        assert type_name(dict(type=kind)) == 'Resize'


LEAF = dict(type='CocoDataset', metainfo=dict(classes=('a', 'b')))


@pytest.mark.parametrize(
    'node, names',
    [
        (LEAF, ['d']),
        (dict(type='RepeatDataset', times=2, dataset=LEAF), ['d.dataset']),
        (
            dict(type='ConcatDataset', datasets=[LEAF, LEAF]),
            ['d.datasets.0', 'd.datasets.1'],
        ),
        (
            dict(
                type='ClassBalancedDataset',
                oversample_thr=1e-3,
                dataset=dict(type='ConcatDataset', datasets=[LEAF]),
            ),
            ['d.dataset.datasets.0'],
        ),
        (
            dict(type='MultiImageMixDataset', dataset=LEAF, pipeline=[]),
            ['d.dataset'],
        ),
    ],
)
def test_datasets_in_wrappers(node, names):
    datasets = list(datasets_of(node, 'd'))
    assert [name for name, _ in datasets] == names
    assert all(config is LEAF for _, config in datasets)


def dataset(classes) -> dict:
    return dict(type='CocoDataset', metainfo=dict(classes=classes))


def test_classes_from_a_file(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('apple\npear\n')
    assert classes_of(dataset(str(path)), 'd') == ('apple', 'pear')


def test_classes_of_the_datasets_type():
    classes = classes_of(dict(type='CocoDataset'), 'd')
    assert (len(classes), classes[0]) == (80, 'person')


@pytest.mark.parametrize(
    'config, message',
    [
        (dataset('pineapple'), r"write \('pineapple',\)"),
        (dataset(('a', 'b', 'a')), "names 'a' twice"),
        (dataset((1, 2)), 'expected a tuple of names'),
        (dataset(7), 'expected a tuple of names'),
        (
            dict(type='CocoDataset', metainfo=dict(CLASSES=('a',))),
            "rename it to 'classes'",
        ),
        (dict(type='BaseDetDataset'), 'classes=None'),
    ],
)
def test_bad_classes(config, message):
    with pytest.raises(UserError, match=message) as caught:
        classes_of(config, 'test_dataloader.dataset')
    assert 'test_dataloader.dataset' in str(caught.value)


def test_labels_of_a_split():
    loader = dict(dataset=dict(type='ConcatDataset', datasets=[LEAF, LEAF]))
    assert labels_of(Config(dict(val_dataloader=loader)), 'val') == ('a', 'b')
    loader['dataset']['datasets'][1] = dataset(('b', 'a'))
    with pytest.raises(UserError, match="label 0 is 'a' by .*'b' by .*1: "):
        labels_of(Config(dict(val_dataloader=loader)), 'val')
    assert labels_of(Config(dict(val_dataloader=loader)), 'test') is None


@pytest.mark.parametrize(
    'one, other, message',
    [
        (('a', 'b'), ('a', 'c'), "label 1 is 'b' by x, but 'c' by y"),
        (('a', 'b'), ('a',), "label 1 is 'b' by x, but missing by y"),
        (('a',), ('a', 'b'), "label 1 is missing by x, but 'b' by y"),
    ],
)
def test_labels_that_disagree(one, other, message):
    same_labels(dict(x=one, y=one))
    with pytest.raises(UserError, match=message):
        same_labels(dict(x=one, y=other))


@pytest.mark.parametrize(
    'inner, expected', [('', 1), ('data_preprocessor=dict(mean=2)', 2)]
)
def test_a_preprocessor_beside_the_model(inner, expected, tmp_path):
    """It is the model's, and what takes the model's place has none."""
    path = tmp_path / 'config.py'
    path.write_text(
        f'model = dict({inner})\ndata_preprocessor = dict(mean=1)\n'
    )
    cfg = read_config(str(path))
    assert cfg.model.data_preprocessor.mean == expected
    assert 'data_preprocessor' not in cfg


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(train_dataloader='abc'), "train_dataloader='abc': .* a dict"),
        (dict(train_dataloader=[]), r'train_dataloader=\[\]: .* a dict'),
        (dict(ann_file=3), r'dataset\.ann_file=3: .* a path'),
        (dict(data_root=3), r'dataset\.data_root=3: .* a path'),
        (dict(data_prefix='x'), r"dataset\.data_prefix='x': .* a dict"),
        (dict(pipeline='x'), r"dataset\.pipeline='x': .* a list"),
        (dict(pipeline=['x']), r"pipeline\.0='x': .* such as dict\(type"),
        (dict(metainfo=['x']), r"dataset\.metainfo=\['x'\]: .* a dict"),
        (dict(optim_wrapper='SGD'), "optim_wrapper='SGD': .* a dict"),
        (dict(optimizer='SGD'), r"wrapper\.optimizer='SGD': .* a dict"),
        (dict(paramwise_cfg='a'), r"wrapper\.paramwise_cfg='a': .* a dict"),
    ],
)
def test_parts_of_another_kind(changes, message):
    cfg = digits_config('2bit')
    check_types(cfg)
    ((key, value),) = changes.items()
    if key in ('optimizer', 'paramwise_cfg'):
        cfg.optim_wrapper[key] = value
    elif key in ('train_dataloader', 'optim_wrapper'):
        cfg[key] = value
    else:
        cfg.train_dataloader.dataset[key] = value
    with pytest.raises(UserError, match=message) as caught:
        check_types(cfg)
    assert str(caught.value).startswith(f'config {cfg.filename}: ')
