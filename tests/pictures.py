"""Small image files, and what training reads of them."""

import io
import struct
import zlib

import mmcv
import numpy as np
from PIL import Image

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
