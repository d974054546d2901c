import io

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from PIL import Image

from aqd_mmdet.datasets.loading import image_size
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


def test_bytes_after_the_end_are_accepted(tmp_path):
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


def test_pixel_formats_that_the_runtime_reads_differently(tmp_path):
    path = tmp_path / 'image.png'
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 16).save(path)
    with pytest.raises(UserError, match=r'image\.png: pixels of mode I;16'):
        load(path)
    # A config that asks for all bits gets them.
    transform = TRANSFORMS.build(
        dict(type='aqd_mmdet.LoadWholeImage', color_type='unchanged')
    )
    assert transform(dict(img_path=str(path)))['img'].dtype == np.uint16


def test_transparent_pixels_that_opencv_blends(tmp_path):
    path = tmp_path / 'image.tif'
    clear = np.concatenate([PIXELS, PIXELS[..., :1]], 2)
    Image.fromarray(clear, 'RGBA').save(path)
    with pytest.raises(UserError, match='transparent pixels of a TIFF'):
        load(path)


@pytest.mark.parametrize('size', [(50, 40), (50.0, 40.0)])
def test_image_size_must_match_the_annotations(tmp_path, size):
    path = tmp_path / 'image.png'
    path.write_bytes(encoded('PNG'))
    transform = TRANSFORMS.build(dict(type='aqd_mmdet.LoadWholeImage'))
    width, height = size
    results = dict(img_path=str(path), width=width, height=height)
    assert transform(results)['img'].shape == (40, 50, 3)
    results = dict(img_path=str(path), width=height, height=width)
    with pytest.raises(UserError, match='is 50 x 40 .* say 40 x 50'):
        transform(results)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF'])
@pytest.mark.parametrize('turn', range(1, 9))
def test_size_without_decoding_equals_decoded_size(tmp_path, kind, turn):
    path = tmp_path / 'image'
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(PIXELS).save(path, kind, exif=exif)
    for oriented, color in (
        (True, 'color'),
        (False, 'color_ignore_orientation'),
    ):
        transform = TRANSFORMS.build(
            dict(type='aqd_mmdet.LoadWholeImage', color_type=color)
        )
        height, width = transform(dict(img_path=str(path)))['img'].shape[:2]
        assert image_size(path, oriented) == (width, height)


def test_too_many_pixels(tmp_path, monkeypatch):
    path = tmp_path / 'image.png'
    path.write_bytes(encoded('PNG'))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 900)
    with pytest.raises(UserError, match='too many pixels'):
        load(path)


def test_orientation_that_opencv_versions_treat_differently(tmp_path):
    path = tmp_path / 'image.webp'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    with pytest.raises(UserError, match='save the picture upright'):
        load(path)
