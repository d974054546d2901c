"""What holds a file together: docs/file_format.md, section 1.

A header, then the text of a structure and a block of numbers, with the lengths
and checksums of both before them.
"""

import struct
import zlib

from . import lz4
from .limits import expect

# As PNG's: a transfer that changes line ends or strips bit 8 is noticed.
MAGIC = b'\x89AQD\r\n\x1a\n'
VERSION = 5
# Its text was not compressed in earlier versions.
VERSIONS = (3, 4, VERSION)
HEADER = struct.Struct('<8sII')
SECTION = struct.Struct('<4sIQ')
TAGS = (b'JSON', b'DATA')
ALIGNMENT = 8


def join(text: bytes, data: bytes) -> bytes:
    """Return the content of a file of JSON and numbers."""
    before = HEADER.size + len(TAGS) * SECTION.size
    return sealed(VERSION, lz4.compress(text, before, ALIGNMENT), data)


def sealed(version: int, *payloads: bytes) -> bytes:
    """Return the content of a file whose sections have these contents."""
    return b''.join(
        [
            HEADER.pack(MAGIC, version, len(TAGS)),
            *(
                SECTION.pack(tag, zlib.crc32(payload), len(payload))
                for tag, payload in zip(TAGS, payloads, strict=True)
            ),
            *payloads,
        ]
    )


def split(content: bytes) -> tuple[int, bytes, memoryview]:
    """Return a file's version, its JSON and its numbers.

    Raises:
        UserError: If it is no whole file of a known version.
    """
    whole = len(content) >= HEADER.size
    magic, version, count = (
        HEADER.unpack_from(content) if whole else (content[:8], VERSION, 0)
    )
    expect(magic == MAGIC, 'its first bytes', 'those of an .aqd file', magic)
    expect(whole, 'its header', f'{HEADER.size} bytes', len(content))
    expect(
        version in VERSIONS,
        'its version',
        f'{min(VERSIONS)} to {VERSION}, which this release reads',
        f'{version}: compile it again',
    )
    expect(count == len(TAGS), 'it', f'{len(TAGS)} sections', count)
    at = HEADER.size + count * SECTION.size
    expect(
        len(content) >= at, 'its table of sections', f'{at} bytes',
        len(content),
    )  # fmt: skip
    text, at = _section(content, 0, at)
    data, at = _section(content, 1, at)
    expect(at == len(content), 'its length', f'{at} bytes', len(content))
    plain = lz4.decompress(bytes(text)) if version == VERSION else bytes(text)
    return version, plain, data


def _section(content: bytes, number: int, at: int) -> tuple[memoryview, int]:
    """Return the content of a section that begins at a place, and its end."""
    tag, checksum, length = SECTION.unpack_from(
        content, HEADER.size + number * SECTION.size
    )
    name = TAGS[number].decode()
    expect(tag == TAGS[number], f'section {number}', name, tag)
    rest = len(content) - at
    expect(
        length <= rest, f'section {name}', f'{length} bytes',
        f'{rest}: the file is cut off',
    )  # fmt: skip
    payload = memoryview(content)[at : at + length]
    found = zlib.crc32(payload)
    expect(
        found == checksum,
        f'section {name}',
        f'a checksum of {checksum:08x}',
        f'{found:08x}: the file is damaged',
    )
    return payload, at + length
