"""What a file is refused for before its meaning: bytes, JSON, arrays."""

import struct
from collections.abc import Callable
from typing import Any

from tests.refusals.changes import (
    BOX,
    OPS,
    POST,
    Refusal,
    setting,
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


CONTAINER = [
    Refusal('magic', lambda c: b'PK' + c[2:], 'expected those of an .aqd'),
    Refusal('empty', lambda c: b'', 'expected those of an .aqd'),
    Refusal('half a header', lambda c: c[:12], 'expected 16 bytes, found 12'),
    Refusal(
        'version',
        lambda c: c[:8] + NUMBER.pack(9) + c[12:],
        'expected 3 to 4, which this release reads, found 9: compile it again',
    ),
    Refusal(
        'an earlier version',
        lambda c: c[:8] + NUMBER.pack(2) + c[12:],
        'expected 3 to 4, which this release reads, found 2: compile it again',
    ),
    Refusal(
        'zero points in version 3',
        lambda c: c[:8] + NUMBER.pack(3) + c[12:],
        "found 'zero' besides",
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
        'dtype: expected uint8, int16, int32, int64, found "float64"',
    ),
    Refusal(
        'int16',
        setting(f'{BOX}.multipliers.m.dtype', 'int16'),
        'm: expected int32 of 4 channels or one, found int16',
    ),
    Refusal(
        'another type',
        setting(f'{BOX}.multipliers.m.dtype', 'uint8'),
        'm: expected int32 of 4 channels or one, found uint8',
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
