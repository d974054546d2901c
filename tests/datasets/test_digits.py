import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.datasets import DigitScenes, write_digits
from aqd_mmdet.datasets.digits import _material
from aqd_mmdet.errors import UserError


def files(root):
    return {
        p.relative_to(root): p.read_bytes()
        for p in sorted(root.rglob('*'))
        if p.is_file()
    }


def test_equal_parameters_give_equal_scenes(tmp_path):
    scenes = DigitScenes(train=3, val=2)
    write_digits(tmp_path / 'a', scenes)
    write_digits(tmp_path / 'b', scenes)
    assert files(tmp_path / 'a') == files(tmp_path / 'b')
    write_digits(tmp_path / 'c', DigitScenes(train=3, val=2, seed=1))
    assert files(tmp_path / 'a') != files(tmp_path / 'c')


def test_an_image_does_not_depend_on_the_number_of_images(tmp_path):
    write_digits(tmp_path / 'a', DigitScenes(train=2, val=1))
    write_digits(tmp_path / 'b', DigitScenes(train=4, val=1))
    for name in ('00000.png', '00001.png'):
        assert (tmp_path / 'a/train' / name).read_bytes() == (
            tmp_path / 'b/train' / name
        ).read_bytes()


def test_existing_scenes_are_kept(tmp_path):
    scenes = DigitScenes(train=2, val=1)
    assert write_digits(tmp_path / 'a', scenes)
    assert not write_digits(tmp_path / 'a', scenes)
    with pytest.raises(UserError, match='holds something else'):
        write_digits(tmp_path / 'a', DigitScenes(train=3, val=1))


def test_an_interrupted_write_is_started_again(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    scenes = DigitScenes(train=2, val=1)
    (tmp_path / 'a.part').mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / 'a', scenes, stop)
    assert [x.name for x in tmp_path.iterdir()] == ['a.part']
    assert write_digits(tmp_path / 'a', scenes)
    assert sorted(x.name for x in tmp_path.iterdir()) == ['a', 'a.part']


def test_a_folder_without_a_name():
    with pytest.raises(UserError, match='--out .: give a folder with a name'):
        write_digits(Path(), DigitScenes(train=2, val=1))


def test_boxes_are_inside_the_image_and_not_empty(digits):
    content = json.loads((digits / 'train.json').read_text())
    assert len(content['images']) == 24
    assert {c['name'] for c in content['categories']} == set('0123456789')
    for entry in content['annotations']:
        x, y, w, h = entry['bbox']
        assert 0 <= x <= x + w <= 160
        assert 0 <= y <= y + h <= 160
        name = content['images'][entry['image_id']]['file_name']
        image = np.asarray(Image.open(digits / 'train' / name), float)
        assert image[y : y + h, x : x + w].std() > 2


def test_splits_share_no_digit():
    train, val = _material('train'), _material('val')
    assert len(train.labels) + len(val.labels) == 1797
    assert set(train.labels) == set(val.labels) == set(range(10))
    assert len(val.labels) / 1797 == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(train=0), 'train=0'),
        (dict(min_digit=60), '8 <= min'),
        (dict(contrast=200), 'contrast'),
        (dict(clutter=-1), 'clutter=-1: give at least 0'),
        (dict(seed=-1), 'seed=-1: give at least 0'),
        (dict(max_overlap=float('nan')), 'max_overlap=nan: give 0 to 1'),
        (dict(max_overlap=1.5), 'max_overlap=1.5: give 0 to 1'),
        (dict(size=640), 'at most 638'),
    ],
)
def test_impossible_scenes(options, message):
    with pytest.raises(UserError, match=message):
        DigitScenes(**options)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for name in ('file', 'file/x'):
        with pytest.raises(UserError, match='/file is a file; choose another'):
            write_digits(tmp_path / name, DigitScenes(train=1, val=1))
    assert (tmp_path / 'file').read_text() == 'mine'
