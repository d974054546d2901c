"""A reader of `model.aqd`, written from `docs/file_format.md` alone.

It knows nothing of the project's own reader. It fills the records by their
types. It checks the container and the shape of the data (sections 1 to 8),
but not the limits and conditions of section 9: it is for files that were
checked.
"""

import json
import types
import zlib
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np

from tests.specification.records import ArrayOf, Detector, Integers, Kinds

# Section 2: bytes of a number of each type.
BYTES = dict(
    uint8=1, int8=1, int16=2, uint24=3, int32=4, int40=5, int48=6, int64=8
)  # fmt: skip


def read(file: bytes) -> Detector:
    """Read a detector.

    Args:
        file: Content of a `model.aqd`.

    Raises:
        ValueError: The bytes are not as sections 1 to 8 say.
    """
    head = bytes.fromhex('89 41 51 44 0d 0a 1a 0a 05 00 00 00 02 00 00 00')
    _demand(file[:16] == head, 'not an .aqd file of version 5')
    at, contents = 48, []
    for entry, tag in ((16, b'JSON'), (32, b'DATA')):
        _demand(file[entry : entry + 4] == tag, f'the section {tag!r}')
        crc = int.from_bytes(file[entry + 4 : entry + 8], 'little')
        length = int.from_bytes(file[entry + 8 : entry + 16], 'little')
        contents.append(file[at : at + length])
        _demand(zlib.crc32(contents[-1]) == crc, f'the checksum of {tag!r}')
        at += length
    _demand(at == len(file), f'{len(file)} bytes instead of {at}')
    text = _plain(contents[0]).decode()
    tree = json.loads(text, object_pairs_hook=_once)
    detector: Detector = _build(Detector, tree, contents[1], 'detector')
    return detector


def _demand(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f'wrong: {what}')


def _plain(block: bytes) -> bytes:
    """The text that a block of LZ4 stands for."""
    text, at = b'', 0

    def length(bits: int) -> int:
        nonlocal at
        if bits < 15:
            return bits
        while block[at] == 255:
            bits, at = bits + 255, at + 1
        at += 1
        return bits + block[at - 1]

    while True:
        token, at = block[at], at + 1
        literals = length(token >> 4)
        text += block[at : at + literals]
        at += literals
        _demand(at <= len(block), 'literals beyond the block')
        if at == len(block):
            return text
        distance, at = int.from_bytes(block[at : at + 2], 'little'), at + 2
        count = length(token & 15) + 4
        _demand(0 < distance <= len(text), 'a distance')
        _demand(len(text) + count <= 32 * len(block), 'the length of a text')
        for _ in range(count):
            text += text[-distance : len(text) - distance + 1]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _demand(len(dict(pairs)) == len(pairs), 'a key that is there twice')
    return dict(pairs)


def _build(kind: Any, value: Any, data: bytes, where: str) -> Any:
    """`value` of the JSON text as `kind`, a type that a table demands."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _array(kind.__metadata__[0], value, data, where)
    if origin is types.UnionType:  # `T | None` is the only one
        if value is None:
            return None
        return _build(parts[0], value, data, where)
    if origin is dict:
        return {k: _build(parts[1], v, data, k) for k, v in value.items()}
    if origin is tuple:
        _demand(len(value) == 2, f'{where}: no pair')
        return tuple(_build(int, v, data, where) for v in value)
    if origin is list:
        _demand(type(value) is list, f'{where}: no list')
        return [_build(parts[0], v, data, where) for v in value]
    if is_dataclass(kind) or issubclass(kind, Kinds):
        return _record(kind, value, data, where)
    accepted = (int, float) if kind is float else (kind,)
    _demand(type(value) in accepted, f'{where} is no {kind.__name__}')
    return value


def _record(kind: Any, value: Any, data: bytes, where: str) -> Any:
    _demand(type(value) is dict, f'{where}: no object')
    value = dict(value)
    if issubclass(kind, Kinds):
        known = {each.__name__: each for each in kinds(kind)}
        _demand(value.get('kind') in known, f'{where}.kind')
        kind = known[value.pop('kind')]
    of = get_type_hints(kind, include_extras=True)
    _demand(set(value) == set(of), f'{where} has the keys {sorted(value)}')
    return kind(
        **{
            key: _build(of[key], value[key], data, f'{where}.{key}')
            for key in of
        }
    )


def kinds(base: type) -> list[type]:
    """All kinds of `base`."""
    below = [kind for each in base.__subclasses__() for kind in kinds(each)]
    return below or [base]


def _array(of: ArrayOf, value: Any, data: bytes, where: str) -> Integers:
    if type(value) is list:
        _demand(of.axes == 1, f'{where}: no array')
        return np.array(value, np.int64)
    _demand(set(value) == {'dtype', 'shape', 'at'}, f'{where}: no array')
    shape, at, dtype = value['shape'], value['at'], value['dtype']
    _demand(dtype in of.dtypes, f'{where}.dtype')
    _demand(len(shape) == of.axes, f'{where} has other axes')
    width, count = BYTES[dtype], int(np.prod(shape, dtype=object))
    end = at + width * count
    inside = 0 <= at <= end <= len(data) and at % 8 == 0
    _demand(inside, f'{where} is outside of DATA')
    numbers = [
        int.from_bytes(data[i : i + width], 'little', signed=dtype[0] == 'i')
        for i in range(at, end, width)
    ]
    return np.array(numbers, np.int64).reshape(shape)
