import io

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from PIL import Image

from aqd_mmdet.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


def load(path):
    transform = TRANSFORMS.build(dict(type='aqd_mmdet.LoadWholeImage'))
    return transform(dict(img_path=str(path)))['img']


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP'])
def test_whole_images(tmp_path, kind):
    path = tmp_path / 'image'
    path.write_bytes(encoded(kind))
    assert load(path).shape == (40, 50, 3)


def test_bytes_behind_the_end_do_no_harm(tmp_path):
    path = tmp_path / 'image.jpg'
    path.write_bytes(encoded('JPEG') + bytes(500))
    assert load(path).shape == (40, 50, 3)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('share', [0.4, 0.95])
def test_truncated_images(tmp_path, kind, share):
    path = tmp_path / 'image'
    data = encoded(kind)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match='image: the image is damaged'):
        load(path)


def test_not_an_image(tmp_path):
    path = tmp_path / 'image.jpg'
    path.write_text('no image')
    with pytest.raises(UserError, match='not an image'):
        load(path)


def test_missing(tmp_path):
    with pytest.raises(UserError, match='no such image'):
        load(tmp_path / 'image.jpg')
