"""Reading images as training does."""

import io
import struct
import warnings
import zlib

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime.images import orientation, read_image

HEIGHT, WIDTH = 45, 70
MAKE, X_RESOLUTION, UNKNOWN, ORIENTATION = 0x10F, 0x11A, 0x100, 0x112


def pixels(channels: int = 3) -> np.ndarray:
    """A smooth picture that no turn leaves as it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [3 * x + y, 5 * y, 255 - 2 * x - y, 4 * x * y // 60]
    return np.clip(np.stack(planes, -1)[..., :channels], 0, 255).astype('u1')


def picture(mode: str = 'RGB') -> Image.Image:
    image = Image.fromarray(pixels())
    if mode in ('RGBA', 'LA', 'PA'):
        image = image.convert(mode.replace('P', 'L'))
        image.putalpha(Image.fromarray(pixels(4)[..., 3]))
    return image.convert(mode)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def trained(content: bytes, flag: str = 'color') -> np.ndarray:
    """Return what LoadImageFromFile gives, as RGB."""
    return mmcv.imfrombytes(content, flag=flag, backend='cv2')[..., ::-1]


@pytest.fixture
def read(tmp_path):
    """Reads an image that is given as bytes."""

    def from_bytes(content: bytes, oriented: bool = True) -> np.ndarray:
        (tmp_path / 'image').write_bytes(content)
        return read_image(tmp_path / 'image', oriented)

    return from_bytes


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


def exif_block(number: int, order: str = '<', kind: int = 3, **more) -> bytes:
    """Return an EXIF block: a directory with an orientation at its end."""
    value = struct.pack(order + {1: 'B3x', 3: 'H2x', 4: 'I'}[kind], number)
    entries = [
        *more.get('before', ()),
        (ORIENTATION, kind, more.get('size', 1), value),
    ]
    count = more.get('count', len(entries))
    block = {'<': b'II*\0', '>': b'MM\0*'}[order]
    block += struct.pack(order + 'IH', more.get('start', 8), count)
    for tag, of_kind, size, content in entries:
        block += struct.pack(order + 'HHI', tag, of_kind, size) + content
    return block + b'\0' * 4


def segment(content: bytes, marker: int = 0xE1) -> bytes:
    return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content


def jpeg(*segments: bytes) -> bytes:
    plain = encoded(picture(), 'JPEG')
    return plain[:2] + b''.join(segments) + plain[2:]


def exif(block: bytes) -> bytes:
    return segment(b'Exif\0\0' + block)


def xmp(number: int) -> bytes:
    return (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description '
        b'tiff:Orientation="%d"/></x:xmpmeta>' % number
    )


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
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = read(content)
    assert np.array_equal(found, trained(content))


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


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return (
        struct.pack('>I', len(content))
        + name
        + content
        + (struct.pack('>I', check))
    )


def png(
    depth: int, kind: int, rows: np.ndarray, before=b'', behind=b''
) -> bytes:
    """Return a PNG file, of rows of bytes as they are stored."""
    per_pixel = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    width = rows.shape[1] * 8 // per_pixel
    header = struct.pack('>IIBBBBB', width, len(rows), depth, kind, 0, 0, 0)
    data = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + before
        + chunk(b'IDAT', data)
        + behind
        + chunk(b'IEND', b'')
    )


ROWS = pixels().reshape(HEIGHT, -1)
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


PNG_FORMS = {
    'palette, one clear': dict(transparency=3),
    'palette, all half clear': dict(transparency=bytes(range(16))),
    'palette of 1 bit': dict(bits=1, colours=2),
    'palette of 4 bits, one clear': dict(bits=4, transparency=1),
}


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


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(UserError, match='is a folder'):
        read_image(tmp_path)
