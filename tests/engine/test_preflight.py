import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from aqd_mmdet.engine import preflight
from aqd_mmdet.errors import UserError
from tests.conftest import CONFIGS, digits_config

CLASSES = ('cat', 'dog')


def write(folder: Path, **changes) -> Path:
    content = dict(
        images=[dict(id=1, file_name='a.png', width=100, height=50)],
        annotations=[
            dict(id=7, image_id=1, category_id=3, bbox=[10, 10, 20, 20])
        ],
        categories=[dict(id=3, name='cat'), dict(id=4, name='dog')],
    )
    content.update(changes)
    (folder / 'a.png').touch()
    path = folder / 'ann.json'
    path.write_text(json.dumps(content))
    return path


def box(*bbox, **changes):
    entry = dict(id=7, image_id=1, category_id=3, bbox=list(bbox))
    return dict(annotations=[{**entry, **changes}])


def test_good_annotations(tmp_path):
    preflight.check_annotations(write(tmp_path), tmp_path, CLASSES)
    # A box that reaches a little over the border is an object cut off.
    path = write(tmp_path, **box(90, 10, 15, 20))
    preflight.check_annotations(path, tmp_path, CLASSES)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(images='x'), "no list 'images'"),
        (
            box(0, 0, 5, 5, category_id=9),
            r'annotation 7 has category 9.*\[3, 4\]',
        ),
        (box(0, 0, 5, 5, image_id=9), 'of image 9, which is not there'),
        (box(95, 10, 20, 20), 'annotation 7 has its box .*outside .*100 x 50'),
        (box(-30, 0, 20, 20), 'outside'),
        (dict(annotations=[dict(id=7)]), "lacks or misuses 'category_id'"),
        (box(1, 2, 3), 'lacks or misuses'),
        (
            dict(images=[dict(id=1, file_name='b.png', width=100, height=50)]),
            r'b\.png does not exist',
        ),
        (
            dict(categories=[dict(id=3, name='cat'), dict(id=4, name='dogs')]),
            "class 'dog' .*nearest: dogs",
        ),
    ],
)
def test_mistakes(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        preflight.check_annotations(path, tmp_path, CLASSES)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='no such file.*data_root'):
        preflight.check_annotations(tmp_path / 'x.json', tmp_path, CLASSES)
    with pytest.raises(UserError, match='make_digits'):
        preflight.check_annotations(
            Path('data/digits/x.json'), tmp_path, CLASSES
        )


def test_not_json(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match='not JSON'):
        preflight.check_annotations(path, tmp_path, CLASSES)


def test_classes_must_fit_the_head():
    model = digits_config('2bit').model
    preflight.check_classes(model, [str(i) for i in range(10)])
    with pytest.raises(
        UserError,
        match=r'model.bbox_head.num_classes=10, but '
        r'the dataset has 2 classes',
    ):
        preflight.check_classes(model, CLASSES)


def test_data_of_a_config(digits):
    cfg = digits_config('2bit')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(digits)
    preflight.check_data(cfg, ['train', 'val', 'test'])
    (digits / 'val.json').rename(digits / 'hidden.json')
    try:
        with pytest.raises(UserError, match=r'val\.json: no such file'):
            preflight.check_data(cfg, ['val'])
    finally:
        (digits / 'hidden.json').rename(digits / 'val.json')


def test_default_classes_are_the_datasets(digits):
    cfg = digits_config('2bit')
    cfg.train_dataloader.dataset.data_root = str(digits)
    cfg.train_dataloader.dataset.pop('metainfo')
    with pytest.raises(UserError, match='80 classes'):
        preflight.check_data(cfg, ['train'])


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
        preflight.read_config(str(path))
    assert str(path) in str(caught.value)


def test_missing_config():
    with pytest.raises(UserError, match=r'config no\.py: no such file'):
        preflight.read_config('no.py')


def test_all_pipelines_read_whole_images():
    cfg = Config.fromfile(CONFIGS / 'aqd/retinanet_2bit.py')
    preflight.use_whole_images(cfg)
    text = cfg.pretty_text
    assert "'LoadImageFromFile'" not in text
    assert (
        cfg.train_dataloader.dataset.pipeline[0].type
        == 'aqd_mmdet.LoadWholeImage'
    )


def test_work_dir_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='choose another --work-dir'):
        preflight.make_work_dir(tmp_path / 'file' / 'sub')


def test_full_disk(build, tmp_path, monkeypatch):
    model = build(2)
    preflight.check_space(tmp_path, model)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(UserError, match='1 MiB are free, its checkpoints'):
        preflight.check_space(tmp_path, model)
