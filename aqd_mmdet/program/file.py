"""The file ``model.aqd``: docs/file_format.md.

A structure in JSON, and numbers in a block behind it. Reading one runs
nothing and trusts nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from math import prod
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import UserError
from ..files import write_whole
from . import arrays
from . import ops as ir
from .check import check_detector
from .container import ALIGNMENT, VERSION, join, split
from .detector import CompiledDetector
from .encode import encode
from .fixed_point import Multipliers, whole_steps
from .limits import LIMITS, MAX_INTEGER, Limit, expect, expect_within

# Which version 3 has not; all of them are [0] there.
NEW_KEYS = {ir.Convolution: 'zero', ir.Lookup: 'rows'}
# Types of arrays in earlier versions.
OLD_DTYPES = {
    3: ('uint8', 'int32', 'int64'),
    4: ('uint8', 'int16', 'int32', 'int64'),
}
# Of an integer that is read as one. Longer ones are no integers of 64 bits. As
# real numbers they may be above all of these, and are then infinite.
MAX_DIGITS = 300


def to_bytes(detector: CompiledDetector) -> bytes:
    """Return a detector as the content of a file."""
    tree, data = encode(detector)
    text = json.dumps(tree, separators=(',', ':'))
    return join(text.encode(), data)


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
        if origin is Annotated:
            return self.numbers(hint, node, where)
        if hint is Multipliers:
            return self.multipliers(node, where)
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
        if hint == tuple[int, ...]:
            return self.integers(node, where)
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
        hints = get_type_hints(cls, include_extras=True)
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
        if self.version == 3 and cls in NEW_KEYS:
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
        shape = self.integers(node, where)
        for side in shape:
            expect_within(LIMITS[name], where, side, side)
        return shape

    def array(
        self,
        node: Any,
        where: str,
        types: Iterable[str] = arrays.C_DTYPES,
    ) -> np.ndarray:
        """Return the numbers of an array of one of some types, int64."""
        _object(node, {'dtype', 'shape', 'at'}, where)
        name = node['dtype']
        known = OLD_DTYPES.get(self.version, tuple(types))
        expect(
            type(name) is str and name in known,
            f'{where}.dtype',
            ', '.join(known),
            _shown(name),
        )
        shape = self.shape(node['shape'], f'{where}.shape', 'Array.shape')
        at = _plain(int, node['at'], f'{where}.at')
        end = at + prod(shape) * arrays.DTYPES[name][0]
        expect(
            0 <= at <= end <= len(self.data) and at % ALIGNMENT == 0,
            where,
            f'numbers inside the {len(self.data)} bytes of DATA, from a '
            f'multiple of {ALIGNMENT}',
            f'bytes {at} to {end}',
        )
        return arrays.from_bytes(self.data[at:end], name).reshape(shape)

    def integers(self, node: Any, where: str) -> tuple[int, ...]:
        """Return the integers of a list, or of an array with one axis."""
        if type(node) is list:
            return self.items((int, ...), node, where)
        expect(type(node) is dict, where, 'a list or an array', _shown(node))
        found = self.array(node, where)
        expect(found.ndim == 1, where, 'one axis', found.ndim)
        return tuple(found.tolist())

    def numbers(self, hint: Any, node: Any, where: str) -> np.ndarray:
        """Return an array of a program."""
        dtype = get_args(hint)[1]
        if hint == arrays.Rows and self.version == VERSION:
            rows = self.items((arrays.Int32, ...), node, where)
            for row in rows:
                expect(row.ndim == 1, where, 'rows of one axis', row.ndim)
            return np.concatenate([np.zeros(0, dtype), *rows])
        if type(node) is list:
            found = np.array(self.integers(node, where), np.int64)
        else:
            packed = hint in (arrays.Packed32, arrays.Packed64)
            types = arrays.DTYPES if packed else arrays.C_DTYPES
            found = self.array(node, where, types)
        info = np.iinfo(dtype)
        _expect_all(Limit(int(info.min), int(info.max)), where, found)
        return found.astype(dtype)

    def multipliers(self, node: Any, where: str) -> Multipliers:
        names = {f.name for f in fields(Multipliers)}
        if self.version < VERSION:
            return self.record(Multipliers, _object(node, names, where), where)
        _object(node, {*names, 'whole'}, where)
        table = self.record(Multipliers, node, where)
        if not _plain(bool, node['whole'], f'{where}.whole'):
            return table
        offset, shift = table.b, table.s
        found = offset.shape, shift.shape
        expect(found[0] == found[1], where, 'as many of m, b and s', found)
        _expect_all(LIMITS['Multipliers.s'], f'{where}.s', shift)
        _expect_all(LIMITS['Multipliers.offset'], f'{where}.b', offset)
        return replace(table, b=whole_steps(offset, shift))

    def weights(self, node: Any, where: str) -> ir.Weights:
        _object(node, {'bits', 'shape', 'packed'}, where)
        bits = _plain(int, node['bits'], f'{where}.bits')
        expect_within(LIMITS['Weights.bits'], f'{where}.bits', bits, bits)
        shape = self.shape(node['shape'], f'{where}.shape', 'Weights.shape')
        expect(len(shape) == 4, f'{where}.shape', '4 axes', len(shape))
        place = f'{where}.packed'
        packed = self.array(node['packed'], place).astype(np.uint8)
        size = -(-prod(shape) * bits // 8)
        dtype = node['packed']['dtype']
        expect(
            dtype == 'uint8' and packed.shape == (size,),
            place,
            f'uint8 ({size})',
            f'{dtype} {packed.shape}',
        )
        expect(
            bits < 8 or packed.max() < 255,
            place,
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


def _expect_all(limit: Limit, where: str, array: np.ndarray) -> None:
    """Raise if a number of an array is beyond a limit."""
    if array.size:
        expect_within(limit, where, int(array.min()), int(array.max()))


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


def from_bytes(content: bytes) -> CompiledDetector:
    """Return the detector in a file's content.

    Raises:
        UserError: If anything in it is not as docs/file_format.md says.
    """
    version, text, data = split(content)
    tree = _parse(text)
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
    if path.is_dir():
        raise UserError(f'model {path}: it is a folder; name a file in it')
    if not path.is_file():
        raise UserError(f'model {path}: no such file')
    try:
        content = path.read_bytes()
        return from_bytes(content), content
    except UserError as error:
        raise UserError(f'model {path}: {error}') from None
