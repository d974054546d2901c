"""Reading images as training does."""

import struct
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime import Detections, images
from aqd_mmdet.runtime.images import draw, read_image
from tests.pictures import (
    HEIGHT,
    WIDTH,
    encoded,
    picture,
    pixels,
    png,
    trained,
)

PNG_FORMS = {
    'palette, one clear': dict(transparency=3),
    'palette, all half clear': dict(transparency=bytes(range(16))),
    'palette of 1 bit': dict(bits=1, colours=2),
    'palette of 4 bits, one clear': dict(bits=4, transparency=1),
}


def test_programs_are_not_run(tmp_path):
    # By any name: Pillow looks at the content.
    path = tmp_path / 'picture.jpg'
    picture().save(path, 'EPS')
    with pytest.raises(UserError, match='picture.jpg: EPS is a program'):
        read_image(path)


@pytest.mark.parametrize('name', PNG_FORMS)
def test_palettes_are_read_as_in_training(read, name):
    options = dict(PNG_FORMS[name])
    image = picture().quantize(options.pop('colours', 16))
    content = encoded(image, 'PNG', **options)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = read(content)
    assert np.array_equal(found, trained(content))


@pytest.mark.parametrize(
    'form, modes',
    [
        ('PNG', ['RGB', 'RGBA', 'L', 'LA', 'P', '1']),
        ('JPEG', ['RGB', 'L', 'CMYK']),
        ('WEBP', ['RGB', 'RGBA']),
        ('TIFF', ['RGB', 'L', 'LA', 'P', '1', 'CMYK']),
        ('BMP', ['RGB', 'L', 'P', '1', 'RGBA']),
        ('GIF', ['L', 'P', '1']),
        ('PPM', ['RGB', 'L', '1']),
        ('JPEG2000', ['RGB', 'L', 'RGBA']),
        ('AVIF', ['RGB', 'L', 'RGBA']),
    ],
)
def test_pixels_are_those_of_training(read, form, modes):
    for mode in modes:
        content = encoded(picture(mode), form)
        assert np.array_equal(read(content), trained(content)), mode


@pytest.mark.parametrize(
    'options',
    [
        dict(progressive=True, subsampling=2),
        dict(progressive=True, subsampling=1, quality=30),
        dict(subsampling=2, quality=95),
        dict(subsampling=0),
        dict(keep_rgb=True),
    ],
)
def test_decoders_of_jpeg_agree(read, options):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (45, 71, 3), np.uint8))
    for image in (picture(), noise, noise.convert('L')):
        content = encoded(image, 'JPEG', **options)
        assert np.array_equal(read(content), trained(content))


@pytest.mark.parametrize('depth', [1, 2, 4])
def test_few_bits_are_spread_as_in_training(read, depth):
    rows = np.random.default_rng(0).integers(0, 256, (9, 8), np.uint8)
    content = png(depth, 0, rows)
    assert np.array_equal(read(content), trained(content))


def test_inks_without_adobes_mark(read):
    content = encoded(picture('CMYK'), 'JPEG')
    at = content.index(b'\xff\xee')
    (size,) = struct.unpack_from('>H', content, at + 2)
    content = content[:at] + content[at + 2 + size :]
    assert np.array_equal(read(content), trained(content))


@pytest.mark.parametrize('form', ['GIF', 'PNG', 'TIFF', 'WEBP', 'AVIF'])
def test_of_many_frames_the_first_is_read(read, form):
    frames = [picture(), picture().transpose(1), picture().transpose(0)]
    if form == 'GIF':
        frames = [frame.quantize(64) for frame in frames]
    options = dict(lossless=True) if form == 'WEBP' else {}
    content = encoded(
        frames[0], form, save_all=True, append_images=frames[1:], **options
    )
    found = read(content)
    assert np.array_equal(found, trained(content))
    if form != 'AVIF':
        assert np.array_equal(found, np.asarray(frames[0].convert('RGB')))


def gif(at: tuple[int, int]) -> bytes:
    """A GIF whose canvas is larger than its frame, on a background."""
    content = bytearray(encoded(picture().quantize(16), 'GIF'))
    content[6:10] = struct.pack('<HH', WIDTH + 9, HEIGHT + 9)
    frame = content.index(struct.pack('<HH', WIDTH, HEIGHT), 13)
    content[frame - 4 : frame] = struct.pack('<HH', *at)
    return bytes(content)


def apng() -> bytes:
    frames = [picture(), picture().transpose(1)]
    return encoded(
        frames[0],
        'PNG',
        save_all=True,
        append_images=frames[1:],
        default_image=True,
    )


def grey_16() -> bytes:
    return encoded(Image.fromarray(pixels(1)[..., 0] * np.uint16(200)), 'PNG')


def bmp_of_5_bits() -> bytes:
    rows = np.random.default_rng(0).integers(0, 256, (8, 16), np.uint8)
    return (
        b'BM'
        + struct.pack('<IHHI', 54 + rows.size, 0, 0, 54)
        + struct.pack('<IiiHHIIiiII', 40, 8, 8, 1, 16, 0, rows.size, *4 * [0])
        + rows.tobytes()
    )


WIDE = np.random.default_rng(0).integers(0, 256, (9, 48), np.uint8)
REFUSED = {
    'PNG, grey of 16 bits': (grey_16, '8 bits a channel'),
    'PNG, colour of 16 bits': (lambda: png(16, 2, WIDE), '8 bits a channel'),
    'PNG, grey and alpha': (lambda: png(16, 4, WIDE), '8 bits a channel'),
    'PNG, all of 16 bits': (lambda: png(16, 6, WIDE), '8 bits a channel'),
    'TIFF of 16 bits': (
        lambda: cv2.imencode('.tiff', pixels() * np.uint16(200))[1].tobytes(),
        '8 bits a channel',
    ),
    'PPM of 16 bits': (
        lambda: cv2.imencode('.ppm', pixels() * np.uint16(200))[1].tobytes(),
        '8 bits a channel',
    ),
    'PPM up to 100': (
        lambda: b'P6\n2 1\n100\n' + bytes(range(6)),
        '8 bits a channel',
    ),
    'BMP of 5 bits': (bmp_of_5_bits, '8 bits a channel'),
    'TIFF of floats': (
        lambda: encoded(picture('F'), 'TIFF'),
        '8 bits a channel',
    ),
    'TIFF of lightness': (
        lambda: encoded(picture('LAB'), 'TIFF'),
        'mode LAB',
    ),
    'TIFF, half clear': (
        lambda: encoded(picture('RGBA'), 'TIFF'),
        'transparent',
    ),
    'GIF, one clear': (
        lambda: encoded(picture().quantize(16), 'GIF', transparency=3),
        'transparent',
    ),
    'GIF of less than its canvas': (lambda: gif((4, 5)), 'transparent'),
    'animated PNG with another picture': (apng, 'animated PNG'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_training_would_read_otherwise_is_refused(read, name):
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        read(make())
    assert len(str(caught.value).splitlines()) == 1


def test_a_tiff_whose_alpha_hides_nothing_is_read(read):
    image = picture()
    image.putalpha(255)
    content = encoded(image, 'TIFF')
    assert np.array_equal(read(content), pixels())
    assert np.array_equal(read(content), trained(content))


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'TIFF', 'GIF', 'BMP', 'WEBP'])
def test_damage_is_told_in_a_line(read, form):
    """Whatever Pillow raises, nothing but a UserError comes out."""
    rng = np.random.default_rng(0)
    whole = encoded(picture(), form)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 200), 3):
            content[place] = rng.integers(256)
        try:
            read(bytes(content[: rng.integers(20, len(whole) + 1)]))
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused > 10


def test_filters_of_warnings_are_left_alone(monkeypatch, tmp_path):
    """They are of all threads: of two that set them and put them back, the
    last one out would keep what the other had set."""
    seen = []
    monkeypatch.setattr(
        images, '_pixels', lambda *_: seen.append(list(warnings.filters))
    )
    (tmp_path / 'a.png').write_bytes(encoded(picture(), 'PNG'))
    read_image(tmp_path / 'a.png')
    assert seen == [warnings.filters]


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UserError, match='is a folder'):
        read_image(tmp_path)


def test_the_best_box_is_drawn_on_top():
    image = np.zeros((40, 40, 3), np.uint8)
    found = Detections(
        np.array([[5, 20, 35, 35]] * 2, np.int32) * 256,
        np.array([0, 1], np.int32),
        np.array([2**23, 2**22], np.int32),
    )
    best = Detections(*(part[:1] for part in found))
    both, one = (
        np.asarray(draw(image, x, ['a', 'b'], 0.1)) for x in (found, best)
    )
    assert np.array_equal(both[20:], one[20:])
