"""The file ``model.aqd``: docs/file_format.md.

A structure in JSON, numbers in a block behind it, lengths and checksums of
both before them. Reading one runs nothing and trusts nothing.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import UserError
from ..files import write_whole
from . import ops as ir
from .check import check_detector
from .detector import CompiledDetector, Decoder, Scores

# As PNG's: a transfer that changes line ends or strips bit 8 is noticed.
MAGIC = b'\x89AQD\r\n\x1a\n'
VERSION = 3
HEADER = struct.Struct('<8sII')
SECTION = struct.Struct('<4sIQ')
TAGS = (b'JSON', b'DATA')
ALIGNMENT = 8
# Classes that stand where an annotation names a base or a choice.
KINDS = (*ir.OPERATORS, *get_args(Decoder), *get_args(Scores))
DTYPES = ('uint8', 'int16', 'int32', 'int64')
MAX_INTEGER = 2**63


class _Data:
    """The block of numbers while it is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, array: np.ndarray) -> dict:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
        content = little.tobytes()
        reference = dict(
            dtype=array.dtype.name, shape=list(array.shape), at=self.length
        )
        gap = -len(content) % ALIGNMENT
        self.parts.append(content + b'\0' * gap)
        self.length += len(content) + gap
        return reference


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

    def __init__(self, data: memoryview) -> None:
        self.data = data

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
            return self.record(hint, node, where)
        if origin is tuple:
            return self.items(get_args(hint), node, where)
        if origin is Mapping:
            _need(isinstance(node, dict), where, 'an object')
            child = get_args(hint)[1]
            return {
                key: self.read(child, value, f'{where}.{key}')
                for key, value in node.items()
            }
        return _plain(hint, node, where)

    def record(self, cls: Any, node: Any, where: str) -> Any:
        hints = get_type_hints(cls)
        names = [f.name for f in fields(cls)]
        _need(isinstance(node, dict), where, 'an object')
        given = set(node) - {'kind'}
        _need(given == set(names), where, f'the keys {", ".join(names)}')
        return cls(
            **{
                name: self.read(hints[name], node[name], f'{where}.{name}')
                for name in names
            }
        )

    def choice(self, classes: tuple, node: Any, where: str) -> Any:
        kind = node.get('kind') if isinstance(node, dict) else None
        kinds = {cls.__name__: cls for cls in classes}
        cls = kinds.get(kind) if isinstance(kind, str) else None
        _need(cls is not None, where, f'a kind of {", ".join(kinds)}')
        return self.record(cls, node, where)

    def items(self, hints: tuple, node: Any, where: str) -> tuple:
        _need(isinstance(node, list), where, 'a list')
        if hints[1:] == (...,):
            hints = (hints[0],) * len(node)
        _need(len(node) == len(hints), where, f'{len(hints)} items')
        return tuple(
            self.read(hint, child, f'{where}.{index}')
            for index, (hint, child) in enumerate(
                zip(hints, node, strict=True)
            )
        )

    def array(self, node: Any, where: str) -> np.ndarray:
        keys = {'dtype', 'shape', 'at'}
        right = isinstance(node, dict) and set(node) == keys
        _need(right, where, 'an array')
        _need(node['dtype'] in DTYPES, where, f'one of {", ".join(DTYPES)}')
        shape = self.items((int, ...), node['shape'], f'{where}.shape')
        at = _plain(int, node['at'], f'{where}.at')
        dtype = np.dtype(node['dtype']).newbyteorder('<')
        count = _count(shape, where)
        end = at + count * dtype.itemsize
        inside = 0 <= at <= end <= len(self.data) and at % ALIGNMENT == 0
        _need(inside, where, f'numbers inside the {len(self.data)} bytes')
        content = np.frombuffer(self.data[at:end], dtype).reshape(shape)
        return content.astype(node['dtype'])

    def weights(self, node: Any, where: str) -> ir.Weights:
        keys = {'bits', 'shape', 'packed'}
        right = isinstance(node, dict) and set(node) == keys
        _need(right, where, 'weights')
        bits = _plain(int, node['bits'], f'{where}.bits')
        _need(2 <= bits <= 8, where, '2 to 8 bits')
        shape = self.items((int, ...), node['shape'], f'{where}.shape')
        count = _count(shape, where)
        packed = self.array(node['packed'], where)
        size = -(-count * bits // 8)
        right = packed.dtype == np.uint8 and packed.shape == (size,)
        _need(right, where, f'{size} packed bytes')
        # At 8 bits a level is none.
        right = bits < 8 or packed.max(initial=0) < 255
        _need(right, where, 'codes of its grid')
        return ir.Weights(bits, shape, packed)


def _need(right: bool, where: str, what: str) -> None:
    if not right:
        raise UserError(f'{where or "its structure"} is not {what}')


def _plain(hint: Any, node: Any, where: str) -> Any:
    if hint is float and type(node) in (int, float):
        return float(node)
    _need(type(node) is hint, where, f'of type {hint.__name__}')
    if hint is int:
        _need(abs(node) < MAX_INTEGER, where, 'an integer of 64 bits')
    return node


def _count(shape: tuple[int, ...], where: str) -> int:
    count = 1
    for side in shape:
        _need(0 <= side < 2**31, where, 'an array of such a shape')
        count *= side
    return count


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is not a number')


def from_bytes(content: bytes) -> CompiledDetector:
    """Return the detector in a file's content.

    Raises:
        UserError: If anything in it is not as docs/file_format.md says.
    """
    view = memoryview(content)
    whole = len(content) >= HEADER.size
    magic, version, count = (
        HEADER.unpack_from(content) if whole else (content[:8], VERSION, 0)
    )
    _need(magic == MAGIC, 'it', 'an .aqd file (its first bytes are others)')
    _need(whole, 'it', 'whole: the header is cut off')
    _need(
        version == VERSION, f'version {version}',
        f'{VERSION}, which this release reads: compile it again',
    )  # fmt: skip
    _need(count == len(TAGS), 'it', f'of {len(TAGS)} sections')
    at = HEADER.size + count * SECTION.size
    _need(len(content) >= at, 'it', 'whole: its table is cut off')
    payloads = []
    for number, expected in enumerate(TAGS):
        tag, checksum, length = SECTION.unpack_from(
            content, HEADER.size + number * SECTION.size
        )
        name = expected.decode()
        _need(tag == expected, f'section {number}', name)
        _need(length <= len(content) - at, f'section {name}', 'whole')
        payload = view[at : at + length]
        right = zlib.crc32(payload) == checksum
        _need(right, f'section {name}', 'undamaged: its checksum is another')
        payloads.append(payload)
        at += length
    _need(at == len(content), 'it', 'at its end where its sections end')
    try:
        tree = json.loads(bytes(payloads[0]), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f'section JSON is not JSON ({error})') from None
    try:
        detector = _Reader(payloads[1]).read(CompiledDetector, tree, '')
    except RecursionError:
        raise UserError('its structure is nested too deep') from None
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
