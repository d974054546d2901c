"""What a file is refused for before its meaning: bytes, JSON, arrays."""

import struct
from collections.abc import Callable
from typing import Any

from tests.damage import of_version, sections, signed
from tests.refusals.changes import (
    BOX,
    OPS,
    POST,
    Refusal,
    as_version,
    setting,
    with_block,
    with_numbers,
    with_text,
    with_tree,
    without,
)

LENGTH = struct.Struct('<Q')
NUMBER = struct.Struct('<I')


def with_unused_weights(
    shape: list[int], bits: int = 2
) -> Callable[[bytes], bytes]:
    def change(tree: Any) -> None:
        packed = dict(dtype='uint8', shape=[0], at=0)
        weights = dict(bits=bits, shape=shape, packed=packed)
        tree['program']['weights']['unused'] = weights

    return with_tree(change)


# Four numbers of 40 bits, one of them beyond int32.
ABOVE = bytes(15) + (2**31).to_bytes(5, 'little')
BELOW = bytes(15) + (-(2**31) - 1).to_bytes(5, 'little', signed=True)


def with_offsets(offset: int, count: int) -> Callable[[bytes], bytes]:
    """Give BOX offsets in whole steps."""
    numbers = count * offset.to_bytes(4, 'little', signed=True)
    change = with_numbers(f'{BOX}.multipliers.b', 'int32', numbers, count)
    whole = setting(f'{BOX}.multipliers.whole', True)
    return lambda content: whole(change(content))


CONTAINER = [
    Refusal('magic', lambda c: b'PK' + c[2:], 'expected those of an .aqd'),
    Refusal('empty', lambda c: b'', 'expected those of an .aqd'),
    Refusal('half a header', lambda c: c[:12], 'expected 16 bytes, found 12'),
    Refusal(
        'version',
        lambda c: c[:8] + NUMBER.pack(9) + c[12:],
        'expected 3 to 5, which this release reads, found 9: compile it again',
    ),
    Refusal(
        'an earlier version',
        lambda c: c[:8] + NUMBER.pack(2) + c[12:],
        'expected 3 to 5, which this release reads, found 2: compile it again',
    ),
    Refusal(
        'zero points in version 3',
        lambda c: signed(*sections(of_version(4, c)), 3),
        "found 'zero' besides",
    ),
    Refusal(
        'offsets in version 4',
        lambda c: signed(*sections(c), 4),
        "found 'whole' besides",
    ),
    Refusal(
        'number of sections',
        lambda c: c[:12] + NUMBER.pack(3) + c[16:],
        'expected 2 sections, found 3',
    ),
    Refusal(
        'tag', lambda c: c[:16] + b'JSOM' + c[20:], 'section 0: expected JSON'
    ),
    Refusal(
        'length',
        lambda c: c[:24] + LENGTH.pack(2**60) + c[32:],
        'the file is cut off',
    ),
    Refusal('checksum', lambda c: c[:-1] + b'x', 'the file is damaged'),
    Refusal('bytes behind', lambda c: c + b'x', 'its length: expected'),
]

# Tokens have the number of literals, and of bytes to copy less 4.
LZ4 = [
    Refusal(
        'an empty block', with_block(b''), 'JSON: expected a block of LZ4'
    ),
    Refusal('no literals', with_block(b'\x20{'), 'found that it ends early'),
    Refusal('no length', with_block(b'\xf0'), 'found that it ends early'),
    Refusal('half a length', with_block(b'\xf0\xff'), 'it ends early'),
    Refusal('a huge length', with_block(b'\xf0' + b'\xff' * 999), 'early'),
    Refusal('half a distance', with_block(b'\x10{\x01'), 'it ends early'),
    Refusal(
        'a copy at the end', with_block(b'\x10{\x01\x00'), 'it ends early'
    ),
    Refusal(
        'half a length of a copy',
        with_block(b'\x1f{\x01\x00\xff'),
        'it ends early|bytes in all',
    ),
    Refusal(
        'a distance of 0',
        with_block(b'\x10{\x00\x00\x10}'),
        'copies of text before them, .*, found 4 bytes from 0 before 1',
    ),
    Refusal(
        'a copy from before the text',
        with_block(b'\x10{\x02\x00\x10}'),
        'copies of text before them, .*, found 4 bytes from 2 before 1',
    ),
    Refusal(
        'too much text',
        with_block(b'\x1f \x01\x00\xff\xff\xff\x00\x20[]'),
        'of 352 bytes in all, found 784 bytes from 1 before 1',
    ),
    Refusal(
        'text that is not compressed',
        lambda c: with_block(sections(c)[0])(c),
        'section JSON: expected ',
    ),
]

JSON = [
    Refusal(
        'no text', with_text(lambda t: b''), 'section JSON: expected JSON'
    ),
    Refusal('nesting', with_text(lambda t: b'[' * 100000), 'section JSON'),
    Refusal(
        'not a number',
        with_text(lambda t: t.replace(b'"scale":0.25', b'"scale":NaN')),
        'NaN is no number',
    ),
    Refusal('bad bytes', with_text(lambda t: b'\xff\xfe'), 'section JSON'),
    Refusal(
        'byte order mark',
        with_text(lambda t: b'\xef\xbb\xbf' + t),
        'section JSON',
    ),
    Refusal(
        'UTF-16',
        with_text(lambda t: t.decode().encode('utf-16-le')),
        'section JSON',
    ),
    Refusal(
        'UTF-32',
        with_text(lambda t: t.decode().encode('utf-32')),
        'section JSON',
    ),
    Refusal(
        'a key twice',
        with_text(
            lambda t: t.replace(b'"short":160', b'"short":160,"short":160')
        ),
        "the key 'short' is there twice",
    ),
    Refusal(
        'weights twice',
        with_text(
            lambda t: t.replace(b'"weights":{', b'"weights":{"c":1,', 1)
        ),
        "the key 'c' is there twice",
    ),
    Refusal('a list', with_text(lambda t: b'[]'), 'JSON: expected an object'),
]

STRUCTURE = [
    Refusal('no labels', setting('labels', []), 'labels: expected 1 to 65536'),
    Refusal(
        'many labels',
        setting('labels', ['x'] * 65537),
        'labels: expected 1 to',
    ),
    Refusal(
        'labels',
        setting('labels', 'cat'),
        'labels: expected a list, found "cat"',
    ),
    Refusal('another key', setting('extra', 1), "found 'extra' besides"),
    Refusal('a key less', without('preprocess.bgr'), "found 'bgr' missing"),
    Refusal(
        'kind of a record',
        setting('preprocess.kind', 'PreProcess'),
        "found 'kind' besides",
    ),
    Refusal(
        'kind',
        setting(f'{OPS}.0.kind', 'Shell'),
        'program.ops.0.kind: expected one of Image, ',
    ),
    Refusal(
        'scores',
        setting(f'{POST}.scores.kind', 'Points'),
        'scores.kind: expected one of Sigmoid, .*, found "Points"',
    ),
    Refusal(
        'a fraction',
        setting(f'{OPS}.1.channels', 1.5),
        'channels: expected type int, found 1.5',
    ),
    Refusal(
        'true', setting(f'{OPS}.1.channels', True), 'type int, found true'
    ),
    Refusal(
        'a large integer',
        setting(f'{POST}.threshold', 2**63),
        'threshold: expected an integer of 64 bits',
    ),
    Refusal(
        'bytes for text', setting('labels.0', 7), 'labels.0: expected type str'
    ),
    Refusal('one', setting('preprocess.bgr', 1), 'bgr: expected type bool'),
    Refusal(
        'a pair of three',
        setting(f'{OPS}.1.stride', [1, 1, 1]),
        'stride: expected 2 items, found 3',
    ),
]

ARRAYS = [
    Refusal(
        'beyond DATA',
        setting(f'{BOX}.multipliers.m.at', 2**23),
        'multipliers.m: expected numbers inside',
    ),
    Refusal(
        'between two multiples of 8',
        setting(f'{BOX}.multipliers.m.at', 4),
        'from a multiple of 8',
    ),
    Refusal(
        'before DATA',
        setting(f'{BOX}.multipliers.m.at', -8),
        'numbers inside',
    ),
    Refusal(
        'a huge shape',
        setting(f'{BOX}.multipliers.m.shape', [2**30] * 9),
        'numbers inside',
    ),
    Refusal(
        'a negative side',
        setting(f'{BOX}.multipliers.m.shape', [-1]),
        'shape: expected 0 to 2147483647, found -1',
    ),
    Refusal(
        'another number of axes',
        setting(f'{BOX}.multipliers.m.shape', [2, 2]),
        r'm: expected int32 of 4 channels or one, found int32 \(2, 2\)',
    ),
    Refusal(
        'another length',
        setting(f'{BOX}.multipliers.m.shape', [3]),
        r'm: expected int32 of 4 channels or one, found int32 \(3,\)',
    ),
    Refusal(
        'several lengths',
        setting(f'{BOX}.multipliers.m.shape', [1]),
        'expected as many of m, b and s',
    ),
    Refusal(
        'float64',
        setting(f'{BOX}.multipliers.m.dtype', 'float64'),
        'dtype: expected uint8, int8, int16, uint24, int32, int40, int48, '
        'int64, found "float64"',
    ),
    Refusal(
        'uint64',
        setting(f'{BOX}.multipliers.m.dtype', 'uint64'),
        'int48, int64, found "uint64"',
    ),
    Refusal(
        'a type that is no text',
        setting(f'{BOX}.multipliers.m.dtype', 32),
        'int48, int64, found 32',
    ),
    Refusal(
        'int8 in version 4',
        as_version(4, setting(f'{BOX}.multipliers.s.dtype', 'int8')),
        'dtype: expected uint8, int16, int32, int64, found "int8"',
    ),
    Refusal(
        'uint24 in version 3',
        as_version(3, setting(f'{BOX}.multipliers.m.dtype', 'uint24')),
        'dtype: expected uint8, int32, int64, found "uint24"',
    ),
    Refusal(
        'a multiplier above int32',
        with_numbers(f'{BOX}.multipliers.m', 'int40', ABOVE, 4),
        'multipliers.m: expected -2147483648 to 2147483647, found '
        '0 to 2147483648',
    ),
    Refusal(
        'a multiplier below int32',
        with_numbers(f'{BOX}.multipliers.m', 'int40', BELOW, 4),
        'multipliers.m: expected -2147483648 to 2147483647, found '
        '-2147483649 to 0',
    ),
    Refusal(
        'a negative shift',
        with_numbers(f'{BOX}.multipliers.s', 'int8', b'\0\0\0\xff', 4),
        'multipliers.s: expected 0 to 255, found -1 to 0',
    ),
    Refusal(
        'a large value of a curve',
        with_numbers(
            f'{POST}.scores.curve.table',
            'int64',
            (2**31).to_bytes(32, 'little'),
            4,
        ),
        'table: expected -2147483648 to 2147483647, found 0 to 2147483648',
    ),
    *(
        Refusal(
            f'{dtype} of {field}',
            with_numbers(field, dtype, bytes(4 * width), *shape),
            f'{field}.dtype: expected uint8, int8, int16, int32, int64, '
            f'found "{dtype}"',
        )
        for field, shape in (
            (f'{POST}.scores.curve.table', (4,)),
            (f'{POST}.decoder.levels.0.base', (1, 4)),
            (f'{BOX}.multipliers.s', (4,)),
            (f'{OPS}.0.mean', (3,)),
            (f'{OPS}.1.zero', (3,)),
            ('program.weights.c.packed', (4,)),
            ('program.weights.c.shape', (4,)),
        )
        for dtype, width in (('uint24', 3), ('int40', 5), ('int48', 6))
    ),
    Refusal(
        'an offset that its shift makes too large',
        with_offsets(2**14 + 1, 4),
        'multipliers.b: expected -16384 to 16384, found 16385',
    ),
    Refusal(
        'an offset below all',
        with_offsets(-(2**14) - 1, 4),
        'multipliers.b: expected -16384 to 16384, found -16385',
    ),
    Refusal(
        'fewer offsets', with_offsets(0, 3), 'expected as many of m, b and s'
    ),
    Refusal(
        'whole steps or not',
        setting(f'{BOX}.multipliers.whole', 1),
        'whole: expected type bool, found 1',
    ),
    Refusal(
        'weights of another type',
        setting('program.weights.c.packed.dtype', 'int8'),
        r'packed: expected uint8 \(2\), found int8',
    ),
    Refusal(
        'a shape that is itself an array',
        setting(f'{BOX}.multipliers.m.shape', dict(dtype='uint8')),
        "found 'at' missing",
    ),
    Refusal(
        'a key more',
        setting(f'{BOX}.multipliers.m.kind', 'Array'),
        "found 'kind' besides",
    ),
]

WEIGHTS = [
    Refusal(
        'bits',
        setting('program.weights.c.bits', 9),
        'weights.c.bits: expected 2 to 8, found 9',
    ),
    Refusal(
        'shape',
        setting('program.weights.c.shape', [2, 9, 1, 1]),
        r'packed: expected uint8 \(5\)',
    ),
    Refusal(
        'one axis',
        setting('program.weights.c.shape', [6]),
        'weights.c.shape: expected 4 axes, found 1',
    ),
    Refusal(
        'five axes',
        setting('program.weights.c.shape', [2, 3, 1, 1, 1]),
        'expected 4 axes, found 5',
    ),
    Refusal(
        'unused of no output',
        with_unused_weights([0, 1, 1, 1]),
        'shape: expected 1 to 2147483647, found 0',
    ),
    Refusal(
        'unused of one axis', with_unused_weights([0]), 'shape: expected 1 to'
    ),
    Refusal(
        'unused without bytes',
        with_unused_weights([1, 1, 1, 1]),
        r'packed: expected uint8 \(1\), found uint8 \(0,\)',
    ),
]
