"""How pictures are turned: as in training, or refused."""

import struct

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime.images import orientation
from tests.pictures import (
    HEIGHT,
    MAKE,
    ORIENTATION,
    ROWS,
    UNKNOWN,
    WIDTH,
    X_RESOLUTION,
    chunk,
    encoded,
    exif,
    exif_block,
    jpeg,
    picture,
    png,
    segment,
    trained,
    xmp,
)

# Pillow's, of odd blocks.
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


def turned(form: str, mode: str, number: int) -> bytes:
    if form == 'TIFF':
        tags = ImageFileDirectory_v2()
        tags[ORIENTATION] = number
        return encoded(picture(mode), form, tiffinfo=tags)
    exif = Image.Exif()
    exif[ORIENTATION] = number
    options = dict(lossless=True) if form == 'WEBP' else {}
    return encoded(picture(mode), form, exif=exif, **options)


@pytest.mark.parametrize('number', range(1, 9))
@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_orientation_is_that_of_training(read, form, mode, number):
    content = turned(form, mode, number)
    if form == 'WEBP' and number > 1:
        with pytest.raises(UserError, match='in different ways'):
            read(content)
        return
    assert np.array_equal(read(content), trained(content))
    stored = trained(content, 'color_ignore_orientation')
    assert np.array_equal(read(content, oriented=False), stored)
    if form in ('JPEG', 'PNG') and number > 4:
        assert read(content).shape == (WIDTH, HEIGHT, 3)
        assert read(content, oriented=False).shape == (HEIGHT, WIDTH, 3)


def test_sides_are_turned_as_a_person_sees_them(read):
    """Orientation 6: the top of the scene is at the right of the file."""
    left_dark = np.full((8, 16, 3), 255, np.uint8)
    left_dark[:, :8] = 0
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    found = read(encoded(Image.fromarray(left_dark), 'PNG', exif=exif))
    assert found.shape == (16, 8, 3)
    assert (found[:8] == 0).all() and (found[8:] == 255).all()


@pytest.mark.parametrize('mode', ['RGB', 'CMYK'])
def test_pictures_of_several_shots(read, mode):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    shots = [picture(mode), picture(mode).transpose(1)]
    content = encoded(
        shots[0], 'MPO', save_all=True, append_images=shots[1:], exif=exif
    )
    assert np.array_equal(read(content), trained(content))


def outside(tag: int, kind: int) -> tuple[int, int, int, bytes]:
    """An entry that points outside of the block."""
    return tag, kind, 500, struct.pack('<I', 4000)


BLOCKS = {
    'little end first': exif(exif_block(6)),
    'big end first': exif(exif_block(6, '>')),
    'only XMP': segment(xmp(6)),
    'XMP before': segment(xmp(3)) + exif(exif_block(6)),
    'XMP behind': exif(exif_block(1)) + segment(xmp(3)),
    'two blocks': exif(exif_block(6)) + exif(exif_block(8)),
    'the first is broken': exif(b'XX') + exif(exif_block(8)),
    '32 bits': exif(exif_block(6, kind=4)),
    '32 bits, big end first': exif(exif_block(6, '>', kind=4)),
    '8 bits': exif(exif_block(6, kind=1)),
    '8 bits, big end first': exif(exif_block(6, '>', kind=1)),
    'zero': exif(exif_block(0)),
    'nine': exif(exif_block(9)),
    'no values': exif(exif_block(6, size=0)),
    'nine values': exif(exif_block(6, size=9)),
    'twice': exif(exif_block(8, before=[(ORIENTATION, 3, 1, b'\6\0\0\0')])),
    'a string outside': exif(exif_block(6, before=[outside(MAKE, 2)])),
    'a ratio outside': exif(exif_block(6, before=[outside(X_RESOLUTION, 5)])),
    'a stranger outside': exif(exif_block(6, before=[outside(UNKNOWN, 2)])),
    'more entries than there are': exif(exif_block(6, count=60)),
    'a directory outside': exif(exif_block(6, start=9999)),
    'a directory of the header': exif(exif_block(6, start=0)),
    'cut off': exif(exif_block(6)[:-8]),
    'cut off behind the value': exif(exif_block(6)[:-6]),
    'empty': exif(b''),
    'one byte': exif(b'I'),
    'wrong mark': exif(b'II+\0' + exif_block(6)[4:]),
    'another header': segment(b'ABCDEF' + exif_block(6)),
    'without a header': segment(exif_block(6)),
    'another marker': segment(b'Exif\0\0' + exif_block(6), 0xE2),
}


# What OpenCV 4 and 5 read in different ways, or another might.
AMBIGUOUS = (
    'XMP before',
    'two blocks',
    'the first is broken',
    'another header',
)


@pytest.mark.parametrize('name', AMBIGUOUS)
def test_blocks_that_do_not_agree_are_refused(read, name):
    with pytest.raises(UserError, match='in different ways'):
        read(jpeg(BLOCKS[name]))


@pytest.mark.parametrize('name', [n for n in BLOCKS if n not in AMBIGUOUS])
def test_odd_blocks_are_read_as_in_training(read, name):
    content = jpeg(BLOCKS[name])
    assert np.array_equal(read(content), trained(content))


def test_damaged_blocks_are_read_as_in_training(read):
    rng = np.random.default_rng(0)
    whole = exif_block(
        6,
        before=[
            (MAKE, 2, 5, struct.pack('<I', 20)),
            (X_RESOLUTION, 5, 1, struct.pack('<I', 30)),
        ],
    )
    shapes = set()
    for _ in range(300):
        block = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(block), rng.integers(1, 4))
        block[places] = rng.integers(0, 64, len(places))
        content = jpeg(exif(block.tobytes()[: rng.integers(8, 60)]))
        expected = trained(content)
        assert np.array_equal(read(content), expected), block.tobytes()
        shapes.add(expected.shape)
    assert len(shapes) == 2


RAW = b'Raw profile type exif\0\nexif\n%8d\n' % (len(exif_block(6)) + 6)


RAW += (b'Exif\0\0' + exif_block(6)).hex().encode() + b'\n'


@pytest.mark.parametrize(
    'chunks',
    [
        dict(before=chunk(b'eXIf', exif_block(6))),
        dict(behind=chunk(b'eXIf', exif_block(6, '>'))),
        dict(before=chunk(b'eXIf', b'Exif\0\0' + exif_block(6))),
        dict(before=chunk(b'eXIf', b'II+\0' + exif_block(6)[4:])),
        dict(before=chunk(b'eXIf', b'II')),
        dict(before=chunk(b'eXIf', b'')),
        dict(before=chunk(b'eXIf', exif_block(6)[:-9])),
        dict(before=chunk(b'tEXt', RAW)),
        dict(
            before=chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + xmp(6)[29:])
        ),
    ],
)
def test_chunks_of_a_png_are_read_as_in_training(read, chunks):
    content = png(8, 2, ROWS, **chunks)
    assert np.array_equal(read(content), trained(content))


def test_a_tiff_is_not_turned_by_xmp(read):
    tags = ImageFileDirectory_v2()
    tags[700] = xmp(6)[29:]
    content = encoded(picture(), 'TIFF', tiffinfo=tags)
    assert np.array_equal(read(content), trained(content))


@pytest.mark.parametrize(
    'block, number',
    [(b'', 1), (exif_block(6), 6), (exif_block(8, '>'), 8), (b'II*\0', 1)],
)
def test_orientation_of_a_block(block, number):
    assert orientation(block) == number
