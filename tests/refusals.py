"""What every reader of files refuses, as changes of a file that is good.

Each change breaks one sentence of docs/file_format.md. A reader that accepts
one of these files, or refuses the good one, does not follow it.
"""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aqd_mmdet.program import file

# Sections: the text of the structure, and the numbers.
Sections = tuple[bytes, bytes]
_LENGTH = struct.Struct('<Q')
_NUMBER = struct.Struct('<I')


@dataclass(frozen=True)
class Refusal:
    """One change.

    Attributes:
        name: For test reports.
        change: Makes the bad content from a good one.
        message: Part of what aqd_mmdet.program says of it.
    """

    name: str
    change: Callable[[bytes], bytes]
    message: str


def split(content: bytes) -> Sections:
    """Return the contents of a file's two sections."""
    length = _LENGTH.unpack_from(content, file.HEADER.size + 8)[0]
    start = file.HEADER.size + 2 * file.SECTION.size
    return content[start : start + length], content[start + length :]


def joined(text: bytes, data: bytes) -> bytes:
    """Return a file of two sections, with right lengths and checksums."""
    parts = (text, data)
    return b''.join(
        [
            file.HEADER.pack(file.MAGIC, file.VERSION, 2),
            *(
                file.SECTION.pack(tag, zlib.crc32(part), len(part))
                for tag, part in zip(file.TAGS, parts, strict=True)
            ),
            *parts,
        ]
    )


def _text(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the text of the structure."""

    def apply(content: bytes) -> bytes:
        text, data = split(content)
        return joined(change(text), data)

    return apply


def _tree(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Change the structure."""

    def apply(text: bytes) -> bytes:
        tree = json.loads(text)
        change(tree)
        return json.dumps(tree).encode()

    return _text(apply)


def setting(path: str, value: Any) -> Callable[[bytes], bytes]:
    """Set the value at a path such as ``program.ops.0.kind``."""

    def change(tree: Any) -> None:
        *parents, key = (int(k) if k.isdigit() else k for k in path.split('.'))
        for parent in parents:
            tree = tree[parent]
        tree[key] = value

    return _tree(change)


def _remove(path: str) -> Callable[[bytes], bytes]:
    def change(tree: Any) -> None:
        *parents, key = (int(k) if k.isdigit() else k for k in path.split('.'))
        for parent in parents:
            tree = tree[parent]
        del tree[key]

    return _tree(change)


def _add_op(*ops: dict) -> Callable[[bytes], bytes]:
    """Append operators to the network."""
    return _tree(lambda tree: tree['program']['ops'].extend(ops))


def _op(
    kind: str, *inputs: str, lo: int = 0, hi: int = 255, **more: Any
) -> dict:
    """Return an operator of two channels, or of other ones."""
    grid = dict(lo=lo, hi=hi)
    op = dict(kind=kind, output=kind, inputs=list(inputs), channels=2)
    return op | dict(grid=grid) | more


_WINDOW = dict(kernel=[3, 3], stride=[1, 1], padding=[1, 1], dilation=[1, 1])
# What `cls`, of all int32 codes, becomes small by: a slice of the image.
_PIXELS = _op('Slice', 'p', lo=-255, first=0, offset=[0, 0], step=[1, 1])
_HALF = _PIXELS | dict(output='half', step=[2, 2])
_LOOKUP = dict(dtype='int32', shape=[1], at=0)


def _unused_weights(
    shape: list[int], bits: int = 2
) -> Callable[[bytes], bytes]:
    def change(tree: Any) -> None:
        packed = dict(dtype='uint8', shape=[0], at=0)
        weights = dict(bits=bits, shape=shape, packed=packed)
        tree['program']['weights']['unused'] = weights

    return _tree(change)


_OPS, _POST = 'program.ops', 'postprocess'
_BOX = f'{_OPS}.4'  # a requantisation per channel

CONTAINER = [
    Refusal('magic', lambda c: b'PK' + c[2:], 'expected those of an .aqd'),
    Refusal('empty', lambda c: b'', 'expected those of an .aqd'),
    Refusal('half a header', lambda c: c[:12], 'expected 16 bytes, found 12'),
    Refusal(
        'version',
        lambda c: c[:8] + _NUMBER.pack(9) + c[12:],
        'expected 3, which this release reads, found 9: compile it again',
    ),
    Refusal(
        'number of sections',
        lambda c: c[:12] + _NUMBER.pack(3) + c[16:],
        'expected 2 sections, found 3',
    ),
    Refusal(
        'tag', lambda c: c[:16] + b'JSOM' + c[20:], 'section 0: expected JSON'
    ),
    Refusal(
        'length',
        lambda c: c[:24] + _LENGTH.pack(2**60) + c[32:],
        'the file is cut off',
    ),
    Refusal('checksum', lambda c: c[:-1] + b'x', 'the file is damaged'),
    Refusal('bytes behind', lambda c: c + b'x', 'its length: expected'),
]

JSON = [
    Refusal('no text', _text(lambda t: b''), 'section JSON: expected JSON'),
    Refusal('nesting', _text(lambda t: b'[' * 100000), 'section JSON'),
    Refusal(
        'not a number',
        _text(lambda t: t.replace(b'"scale":0.25', b'"scale":NaN')),
        'NaN is no number',
    ),
    Refusal('bad bytes', _text(lambda t: b'\xff\xfe'), 'section JSON'),
    Refusal(
        'byte order mark', _text(lambda t: b'\xef\xbb\xbf' + t), 'section JSON'
    ),
    Refusal(
        'UTF-16',
        _text(lambda t: t.decode().encode('utf-16-le')),
        'section JSON',
    ),
    Refusal(
        'UTF-32', _text(lambda t: t.decode().encode('utf-32')), 'section JSON'
    ),
    Refusal(
        'a key twice',
        _text(lambda t: t.replace(b'"short":160', b'"short":160,"short":160')),
        "the key 'short' is there twice",
    ),
    Refusal(
        'weights twice',
        _text(lambda t: t.replace(b'"weights":{', b'"weights":{"c":1,', 1)),
        "the key 'c' is there twice",
    ),
    Refusal('a list', _text(lambda t: b'[]'), 'JSON: expected an object'),
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
    Refusal('a key less', _remove('preprocess.bgr'), "found 'bgr' missing"),
    Refusal(
        'kind of a record',
        setting('preprocess.kind', 'PreProcess'),
        "found 'kind' besides",
    ),
    Refusal(
        'kind',
        setting(f'{_OPS}.0.kind', 'Shell'),
        'program.ops.0.kind: expected one of Image, ',
    ),
    Refusal(
        'scores',
        setting(f'{_POST}.scores.kind', 'Points'),
        'scores.kind: expected one of Sigmoid, .*, found "Points"',
    ),
    Refusal(
        'a fraction',
        setting(f'{_OPS}.1.channels', 1.5),
        'channels: expected type int, found 1.5',
    ),
    Refusal(
        'true', setting(f'{_OPS}.1.channels', True), 'type int, found true'
    ),
    Refusal(
        'a large integer',
        setting(f'{_POST}.threshold', 2**63),
        'threshold: expected an integer of 64 bits',
    ),
    Refusal(
        'bytes for text', setting('labels.0', 7), 'labels.0: expected type str'
    ),
    Refusal('one', setting('preprocess.bgr', 1), 'bgr: expected type bool'),
    Refusal(
        'a pair of three',
        setting(f'{_OPS}.1.stride', [1, 1, 1]),
        'stride: expected 2 items, found 3',
    ),
]

ARRAYS = [
    Refusal(
        'beyond DATA',
        setting(f'{_BOX}.multipliers.m.at', 2**23),
        'multipliers.m: expected numbers inside',
    ),
    Refusal(
        'between two multiples of 8',
        setting(f'{_BOX}.multipliers.m.at', 4),
        'from a multiple of 8',
    ),
    Refusal(
        'before DATA',
        setting(f'{_BOX}.multipliers.m.at', -8),
        'numbers inside',
    ),
    Refusal(
        'a huge shape',
        setting(f'{_BOX}.multipliers.m.shape', [2**30] * 9),
        'numbers inside',
    ),
    Refusal(
        'a negative side',
        setting(f'{_BOX}.multipliers.m.shape', [-1]),
        'shape: expected 0 to 2147483647, found -1',
    ),
    Refusal(
        'another number of axes',
        setting(f'{_BOX}.multipliers.m.shape', [2, 2]),
        r'm: expected int32 of 4 channels or one, found int32 \(2, 2\)',
    ),
    Refusal(
        'another length',
        setting(f'{_BOX}.multipliers.m.shape', [3]),
        r'm: expected int32 of 4 channels or one, found int32 \(3,\)',
    ),
    Refusal(
        'several lengths',
        setting(f'{_BOX}.multipliers.m.shape', [1]),
        'expected as many of m, b and s',
    ),
    Refusal(
        'float64',
        setting(f'{_BOX}.multipliers.m.dtype', 'float64'),
        'dtype: expected uint8, int32, int64, found "float64"',
    ),
    Refusal(
        'int16',
        setting(f'{_BOX}.multipliers.m.dtype', 'int16'),
        'dtype: expect',
    ),
    Refusal(
        'another type',
        setting(f'{_BOX}.multipliers.m.dtype', 'uint8'),
        'm: expected int32 of 4 channels or one, found uint8',
    ),
    Refusal(
        'a key more',
        setting(f'{_BOX}.multipliers.m.kind', 'Array'),
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
        _unused_weights([0, 1, 1, 1]),
        'shape: expected 1 to 2147483647, found 0',
    ),
    Refusal(
        'unused of one axis', _unused_weights([0]), 'shape: expected 1 to'
    ),
    Refusal(
        'unused without bytes',
        _unused_weights([1, 1, 1, 1]),
        r'packed: expected uint8 \(1\), found uint8 \(0,\)',
    ),
]

PROGRAM = [
    Refusal(
        'no operators',
        setting('program.ops', []),
        'the program: expected operators, found none',
    ),
    Refusal(
        'what no operator makes',
        setting(f'{_OPS}.1.inputs', ['q']),
        r"operator 1 \(c\).inputs: expected what an earlier .*, found 'q'",
    ),
    Refusal('itself', setting(f'{_OPS}.1.inputs', ['c']), "found 'c'"),
    Refusal('a later one', setting(f'{_OPS}.1.inputs', ['b']), "found 'b'"),
    Refusal(
        'the image again', setting(f'{_OPS}.1.inputs', ['image']), "'image'"
    ),
    Refusal(
        'a name twice',
        setting(f'{_OPS}.2.output', 'c'),
        r"operator 2 \(c\).output: expected a new name, found 'c'",
    ),
    Refusal(
        'the name image', setting(f'{_OPS}.2.output', 'image'), 'a new name'
    ),
    Refusal(
        'two inputs of one',
        setting(f'{_OPS}.1.inputs', ['p', 'p']),
        'expected 1 inputs, found 2',
    ),
    Refusal(
        'no input of many',
        _add_op(_op('Concatenate')),
        'expected 1 or more inputs, found 0',
    ),
    Refusal(
        'another first operator',
        setting(f'{_OPS}.0', _op('Region', 'image', output='p', channels=3)),
        'expected Image, found Region',
    ),
    Refusal(
        'an image later',
        _add_op(_op('Image', 'p', lo=-255, mean=[0, 0])),
        'to be first only, found Image',
    ),
    Refusal(
        'codes upside down',
        setting(f'{_OPS}.3.grid', dict(lo=1, hi=0)),
        'grid: expected lo up to hi, found 1..0',
    ),
    Refusal(
        'channels',
        setting(f'{_OPS}.1.channels', 0),
        'operator c.channels: expected 1 to 65536, found 0',
    ),
    Refusal(
        'many channels',
        setting(f'{_OPS}.1.channels', 65537),
        'channels: expected 1 to 65536, found 65537',
    ),
    Refusal(
        'a grid beyond int32',
        setting(f'{_BOX}.grid.lo', 2**40),
        'grid.lo: expected -2147483647 to 2147483647',
    ),
    Refusal(
        'the lowest int32',
        setting(f'{_BOX}.grid.lo', -(2**31)),
        'grid.lo: expected -2147483647 to 2147483647',
    ),
    Refusal(
        'stride',
        setting('program.stride', 0),
        'program.stride: expected 1 to 4096, found 0',
    ),
    Refusal(
        'an output that is not there',
        setting('program.outputs.0.tensors', ['gone']),
        "expected names of its tensors, found 'gone'",
    ),
]

OPERATORS = [
    Refusal(
        'means of an image',
        setting(f'{_OPS}.0.mean', [1, 2]),
        'operator p: expected a mean of each of its 3 channels, found 2',
    ),
    Refusal(
        'a large mean',
        setting(f'{_OPS}.0.mean', [1, 2, 256]),
        'mean: expected 0 to 255',
    ),
    Refusal(
        'codes of an image',
        setting(f'{_OPS}.0.grid.hi', 254),
        'a range that holds -255..255, found -255..254',
    ),
    Refusal(
        'weights that are not there',
        setting(f'{_OPS}.1.weights', 'w'),
        r"operator c: expected weights that .* has \(c, b\), found 'w'",
    ),
    Refusal(
        'a window of a stride of 0',
        setting(f'{_OPS}.1.stride', [0, 1]),
        'operator c.stride: expected 1 to 255, found 0 to 1',
    ),
    Refusal(
        'a kernel that weights are not of',
        setting(f'{_OPS}.1.kernel', [3, 3]),
        r'weights of shape \(2, 3, 3, 3\), found \(2, 3, 1, 1\)',
    ),
    Refusal(
        'groups',
        setting(f'{_OPS}.1.groups', 2),
        'groups that divide its 3 and 2 channels, found 2',
    ),
    Refusal('no groups', setting(f'{_OPS}.1.groups', 0), 'found 0'),
    Refusal(
        'sums of fewer bits',
        setting(f'{_OPS}.1.grid.hi', 127),
        'operator c: expected the range -2147483647..2147483647',
    ),
    Refusal(
        'a convolution of sums',
        setting(f'{_OPS}.2.inputs', ['c']),
        'weights of shape|codes from -32768 to 32768',
    ),
    Refusal(
        'padding of most of a window',
        _add_op(
            _PIXELS,
            _op(
                'MaxPool', 'Slice', lo=-255, **(_WINDOW | dict(padding=[2, 1]))
            ),
        ),
        'a padding up to half of the 3 pixels of its window, found 2',
    ),
    Refusal(
        'a pool of fewer codes',
        _add_op(_PIXELS, _op('MaxPool', 'Slice', **_WINDOW)),
        'operator MaxPool: expected a range that holds the codes -255..255 '
        'of its input, found 0..255',
    ),
    Refusal(
        'a pool of other channels',
        _add_op(_op('MaxPool', 'p', lo=-255, **_WINDOW)),
        'the 2 channels of its output in its inputs, found 3',
    ),
    Refusal(
        'additions of sums',
        _add_op(_op('Add', 'cls', 'cls')),
        'codes from -1073741824 to 1073741824 in its input cls',
    ),
    Refusal(
        'additions of other channels',
        _add_op(_PIXELS, _op('Add', 'Slice', 'p')),
        'operator Add: expected the 2 channels',
    ),
    Refusal(
        'products beyond their range',
        _add_op(_PIXELS, _op('Multiply', 'Slice', 'Slice', lo=-65025)),
        'holds the codes -65025..65025 of its input, found -65025..255',
    ),
    Refusal(
        'a mean of sums',
        _add_op(_op('Mean', 'cls')),
        'codes from -32768 to 32768 in its input cls',
    ),
    Refusal(
        'a mean without fractional bits',
        _add_op(_PIXELS, _op('Mean', 'Slice', lo=-255)),
        'holds the codes -65280..65280 of its input',
    ),
    Refusal(
        'a table of other codes',
        _add_op(_PIXELS, _op('Lookup', 'Slice', table=_LOOKUP, first=0)),
        'a table from -255, the lowest code of its input, found 0',
    ),
    Refusal(
        'a table of one code',
        _add_op(_PIXELS, _op('Lookup', 'Slice', table=_LOOKUP, first=-255)),
        r'a table of int32 for the codes -255..255 .*, found int32 \(1,\)',
    ),
    Refusal(
        'larger maps of other channels',
        _add_op(_PIXELS, _op('Upsample', 'p', 'Slice', lo=-255)),
        'operator Upsample: expected the 2 channels',
    ),
    Refusal(
        'channels together',
        _add_op(_PIXELS, _op('Concatenate', 'p', 'Slice', lo=-255)),
        'operator Concatenate: expected the 5 channels of its inputs, found 2',
    ),
    Refusal(
        'channels behind the last',
        _add_op(_PIXELS | dict(first=2)),
        'operator Slice: expected 2 of the 3 channels of its input, found '
        'those from 2',
    ),
    Refusal(
        'channels before the first', _add_op(_PIXELS | dict(first=-1)), '-1'
    ),
    Refusal(
        'a step of 0',
        _add_op(_PIXELS | dict(step=[0, 1])),
        'operator Slice.step: expected 1 to 255',
    ),
]

DETECTOR = [
    Refusal(
        'labels of other maps',
        setting('labels', ['cat']),
        'operator cls: expected 1 channels, .*, found 2',
    ),
    Refusal(
        'short and long',
        setting('preprocess.long', 100),
        'preprocess.short: expected at most preprocess.long, 100, found 160',
    ),
    Refusal(
        'a large frame',
        setting('preprocess.short', 10**6),
        'preprocess.short: expected 1 to 16384',
    ),
    Refusal(
        'colours',
        setting('preprocess.fill', [1, 2]),
        'preprocess.fill: expected 3 colours, found 2',
    ),
    Refusal(
        'a margin whose areas do not fit',
        lambda c: setting('preprocess.long', 16384)(
            setting(f'{_POST}.margin', 16384)(c)
        ),
        'at most 46340, so that areas fit 63 bits, found 49152',
    ),
    Refusal(
        'keep',
        setting(f'{_POST}.keep', 0),
        'postprocess.keep: expected 1 to 1048576, found 0',
    ),
    Refusal(
        'half of a curve',
        setting(f'{_POST}.scores.curve.first', 0),
        'scores.curve: expected arguments from -1048576 to above 1048576',
    ),
    Refusal(
        'bits of a curve',
        setting(f'{_POST}.scores.curve.bits', 25),
        'curve.bits: expected 0 to 24, found 25',
    ),
    Refusal(
        'outputs of one kind',
        _remove('program.outputs.1'),
        'expected 2 kinds of maps of 1 levels, found maps of .1. levels',
    ),
    Refusal(
        'maps of codes',
        setting(f'{_OPS}.3.grid', dict(lo=0, hi=255)),
        'operator cls: expected a range of int32, found uint8',
    ),
    Refusal(
        'a limit of exponents',
        setting(f'{_POST}.decoder.limit', 2**21),
        'decoder.limit: expected 1 to 1048576',
    ),
    Refusal(
        'no second stages',
        setting(
            'regions',
            dict(
                stages=[],
                limit=1,
                exp=None,
                powers=None,
                threshold=0,
                overlap=0,
                keep=1,
            ),
        ),
        'regions.exp: expected an object, found null',
    ),
]

REFUSALS = [
    refusal
    for group in (
        CONTAINER,
        JSON,
        STRUCTURE,
        ARRAYS,
        WEIGHTS,
        PROGRAM,
        OPERATORS,
        DETECTOR,
    )
    for refusal in group
]
# Changes that leave the file good.
ACCEPTED = [
    Refusal('nothing', lambda c: c, ''),
    Refusal('spaces', _text(lambda t: t + b' \n\t\r'), ''),
    Refusal('escapes', setting('labels.0', '\u2028"\\/'), ''),
    Refusal('a real that is whole', setting('program.outputs.0.scale', 1), ''),
    Refusal('a large real', setting('program.outputs.0.scale', 10**30), ''),
    Refusal(
        'a huge real',
        _text(lambda t: t.replace(b'"scale":0.25', b'"scale":1' + b'0' * 500)),
        '',
    ),
]
