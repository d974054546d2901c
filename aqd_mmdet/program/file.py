"""The file ``model.aqd``: docs/file_format.md.

A structure in JSON, numbers in a block behind it, lengths and checksums of
both before them. Reading one runs nothing and trusts nothing.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import prod
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import UserError
from ..files import write_whole
from . import ops as ir
from .check import check_detector
from .detector import CompiledDetector, Decoder, Scores
from .limits import LIMITS, MAX_INTEGER, expect, expect_within

# As PNG's: a transfer that changes line ends or strips bit 8 is noticed.
MAGIC = b'\x89AQD\r\n\x1a\n'
VERSION = 4
# Which version 3 has not; all of them are [0] there.
NEW_KEYS = {ir.Convolution: 'zero', ir.Lookup: 'rows'}
HEADER = struct.Struct('<8sII')
SECTION = struct.Struct('<4sIQ')
TAGS = (b'JSON', b'DATA')
ALIGNMENT = 8
# Classes that stand where an annotation names a base or a choice.
KINDS = (*ir.OPERATORS, *get_args(Decoder), *get_args(Scores))
# By versions that are read.
DTYPES = {
    3: ('uint8', 'int32', 'int64'),
    VERSION: ('uint8', 'int16', 'int32', 'int64'),
}
# Python refuses to read longer integers; of a real number they are infinite.
MAX_DIGITS = 400


class _Data:
    """The block of numbers while it is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0
        # Where each content is: tables of one function are written once.
        self.places: dict[bytes, int] = {}

    def add(self, array: np.ndarray) -> dict:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
        content = little.tobytes()
        at = self.places.setdefault(content, self.length)
        if at == self.length:
            gap = -len(content) % ALIGNMENT
            self.parts.append(content + b'\0' * gap)
            self.length += len(content) + gap
        return dict(dtype=array.dtype.name, shape=list(array.shape), at=at)


def _encode(value: Any, data: _Data) -> Any:
    if isinstance(value, np.ndarray):
        return data.add(value)
    if is_dataclass(value):
        node = {
            f.name: _encode(getattr(value, f.name), data)
            for f in fields(value)
        }
        cls = type(value)
        return {'kind': cls.__name__, **node} if cls in KINDS else node
    if isinstance(value, Mapping):
        return {key: _encode(child, data) for key, child in value.items()}
    if isinstance(value, tuple):
        return [_encode(child, data) for child in value]
    return value


def to_bytes(detector: CompiledDetector) -> bytes:
    """Return a detector as the content of a file."""
    data = _Data()
    text = json.dumps(_encode(detector, data), separators=(',', ':'))
    # Behind the text, so that the numbers are aligned in the file as well.
    before = HEADER.size + len(TAGS) * SECTION.size
    text += ' ' * (-(before + len(text)) % ALIGNMENT)
    payloads = (text.encode(), b''.join(data.parts))
    return b''.join(
        [
            HEADER.pack(MAGIC, VERSION, len(TAGS)),
            *(
                SECTION.pack(tag, zlib.crc32(payload), len(payload))
                for tag, payload in zip(TAGS, payloads, strict=True)
            ),
            *payloads,
        ]
    )


def save(detector: CompiledDetector, path: Path) -> None:
    """Write a file; an earlier one stays until the new one is complete.

    Args:
        detector: What to write.
        path: Where to.
    """
    write_whole(path, to_bytes(detector))


class _Reader:
    """Turns nodes of the structure into the types that annotations name."""

    def __init__(self, data: memoryview, version: int) -> None:
        self.data = data
        self.version = version

    def read(self, hint: Any, node: Any, where: str) -> Any:
        origin = get_origin(hint)
        if hint is np.ndarray:
            return self.array(node, where)
        if hint is ir.Weights:
            return self.weights(node, where)
        if hint is ir.Op:
            return self.choice(ir.OPERATORS, node, where)
        if origin in (UnionType, Union):
            kinds = tuple(k for k in get_args(hint) if k is not NoneType)
            if len(kinds) == 1:  # or nothing
                return None if node is None else self.read(*kinds, node, where)
            return self.choice(kinds, node, where)
        if is_dataclass(hint):
            names = {f.name for f in fields(hint)}
            return self.record(hint, _object(node, names, where), where)
        if origin is tuple:
            return self.items(get_args(hint), node, where)
        if origin is Mapping:
            expect(type(node) is dict, where, 'an object', _shown(node))
            child = get_args(hint)[1]
            return {
                key: self.read(child, value, f'{where}.{key}')
                for key, value in node.items()
            }
        return _plain(hint, node, where)

    def record(self, cls: Any, node: dict, where: str) -> Any:
        hints = get_type_hints(cls)
        return cls(
            **{
                f.name: self.read(
                    hints[f.name], node[f.name], f'{where}.{f.name}'.strip('.')
                )
                for f in fields(cls)
            }
        )

    def choice(self, classes: tuple, node: Any, where: str) -> Any:
        kinds = {cls.__name__: cls for cls in classes}
        kind = node.get('kind') if type(node) is dict else None
        cls = kinds.get(kind) if type(kind) is str else None
        expect(
            cls is not None,
            f'{where}.kind',
            f'one of {", ".join(kinds)}',
            _shown(kind),
        )
        assert cls is not None
        names = {f.name for f in fields(cls)} | {'kind'}
        if self.version < VERSION and cls in NEW_KEYS:
            new = NEW_KEYS[cls]
            node = {new: [0], **_object(node, names - {new}, where)}
        return self.record(cls, _object(node, names, where), where)

    def items(self, hints: tuple, node: Any, where: str) -> tuple:
        expect(type(node) is list, where, 'a list', _shown(node))
        if hints[1:] == (...,):
            hints = (hints[0],) * len(node)
        expect(
            len(node) == len(hints), where, f'{len(hints)} items', len(node)
        )
        return tuple(
            self.read(hint, child, f'{where}.{index}')
            for index, (hint, child) in enumerate(
                zip(hints, node, strict=True)
            )
        )

    def shape(self, node: Any, where: str, name: str) -> tuple[int, ...]:
        shape = self.items((int, ...), node, where)
        for side in shape:
            expect_within(LIMITS[name], where, side, side)
        return shape

    def array(self, node: Any, where: str) -> np.ndarray:
        _object(node, {'dtype', 'shape', 'at'}, where)
        name, known = node['dtype'], DTYPES[self.version]
        expect(name in known, f'{where}.dtype', ', '.join(known), _shown(name))
        shape = self.shape(node['shape'], f'{where}.shape', 'Array.shape')
        at = _plain(int, node['at'], f'{where}.at')
        dtype = np.dtype(name).newbyteorder('<')
        end = at + prod(shape) * dtype.itemsize
        expect(
            0 <= at <= end <= len(self.data) and at % ALIGNMENT == 0,
            where,
            f'numbers inside the {len(self.data)} bytes of DATA, from a '
            f'multiple of {ALIGNMENT}',
            f'bytes {at} to {end}',
        )
        content = np.frombuffer(self.data[at:end], dtype).reshape(shape)
        return content.astype(name)

    def weights(self, node: Any, where: str) -> ir.Weights:
        _object(node, {'bits', 'shape', 'packed'}, where)
        bits = _plain(int, node['bits'], f'{where}.bits')
        expect_within(LIMITS['Weights.bits'], f'{where}.bits', bits, bits)
        shape = self.shape(node['shape'], f'{where}.shape', 'Weights.shape')
        expect(len(shape) == 4, f'{where}.shape', '4 axes', len(shape))
        packed = self.array(node['packed'], f'{where}.packed')
        size = -(-prod(shape) * bits // 8)
        expect(
            packed.dtype == np.uint8 and packed.shape == (size,),
            f'{where}.packed',
            f'uint8 ({size})',
            f'{packed.dtype} {packed.shape}',
        )
        expect(
            bits < 8 or packed.max() < 255,
            f'{where}.packed',
            'levels of 8 bits up to 254',
            255,
        )
        return ir.Weights(bits, shape, packed)


def _shown(node: Any) -> str:
    """Return a node in a few words."""
    if isinstance(node, (dict, list)):
        return f'{"an object" if isinstance(node, dict) else "a list"}'
    text = json.dumps(node)
    return text if len(text) <= 40 else f'{text[:37]}...'


def _object(node: Any, names: set[str], where: str) -> dict:
    """Return a node if it is an object of exactly these keys."""
    expect(type(node) is dict, where or 'JSON', 'an object', _shown(node))
    odd = sorted(names ^ node.keys())
    expect(
        not odd,
        where or 'JSON',
        f'the keys {", ".join(sorted(names))}',
        f'{odd[0]!r} {"missing" if odd[0] in names else "besides"}'
        if odd
        else '',
    )
    return node


def _plain(hint: Any, node: Any, where: str) -> Any:
    if hint is float and type(node) in (int, float):
        return float(node)
    expect(type(node) is hint, where, f'type {hint.__name__}', _shown(node))
    if hint is int:
        expect(abs(node) <= MAX_INTEGER, where, 'an integer of 64 bits', node)
    return node


def _number(text: str) -> int | float:
    return int(text) if len(text) < MAX_DIGITS else float(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is no number')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    node = dict(pairs)
    if len(node) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'the key {twice!r} is there twice in an object')
    return node


def _parse(text: bytes) -> Any:
    """Return the structure in a section of JSON.

    Raises:
        UserError: If it is not JSON in UTF-8 without a byte order mark, or
            an object has a key twice.
    """
    try:
        return json.loads(
            text.decode('utf-8'),
            parse_constant=_refuse_constant,
            parse_int=_number,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'section JSON: expected JSON in UTF-8, found {error}'
        ) from None


def _sections(content: bytes) -> tuple[int, list[memoryview]]:
    """Return a file's version and the contents of its sections.

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
        version in DTYPES,
        'its version',
        f'{min(DTYPES)} to {VERSION}, which this release reads',
        f'{version}: compile it again',
    )
    expect(count == len(TAGS), 'it', f'{len(TAGS)} sections', count)
    at = HEADER.size + count * SECTION.size
    expect(
        len(content) >= at, 'its table of sections', f'{at} bytes',
        len(content),
    )  # fmt: skip
    payloads = []
    for number, expected in enumerate(TAGS):
        tag, checksum, length = SECTION.unpack_from(
            content, HEADER.size + number * SECTION.size
        )
        name = expected.decode()
        expect(tag == expected, f'section {number}', name, tag)
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
        payloads.append(payload)
        at += length
    expect(at == len(content), 'its length', f'{at} bytes', len(content))
    return version, payloads


def from_bytes(content: bytes) -> CompiledDetector:
    """Return the detector in a file's content.

    Raises:
        UserError: If anything in it is not as docs/file_format.md says.
    """
    version, (text, data) = _sections(content)
    tree = _parse(bytes(text))
    try:
        detector = _Reader(data, version).read(CompiledDetector, tree, '')
    except RecursionError:
        raise UserError(
            'section JSON: expected values at most 64 deep, found more'
        ) from None
    check_detector(detector)
    return detector


def load(path: str | Path) -> tuple[CompiledDetector, bytes]:
    """Read a file.

    Args:
        path: The file.

    Returns:
        tuple: The detector, and the content that it was read from.

    Raises:
        UserError: If it is missing, or not as docs/file_format.md says.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'model {path}: no such file')
    try:
        content = path.read_bytes()
        return from_bytes(content), content
    except UserError as error:
        raise UserError(f'model {path}: {error}') from None
