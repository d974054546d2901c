"""What a network and its detector are refused for."""

from tests.refusals.changes import (
    BOX,
    OPS,
    POST,
    Refusal,
    as_version,
    operator,
    setting,
    with_ops,
    without,
)

WINDOW = dict(kernel=[3, 3], stride=[1, 1], padding=[1, 1], dilation=[1, 1])
# What `cls`, of all int32 codes, becomes small by: a slice of the image.
PIXELS = operator('Slice', 'p', lo=-255, first=0, offset=[0, 0], step=[1, 1])
LOOKUP = dict(dtype='int32', shape=[1], at=0)


def lookup(table: dict | list, rows: list[int], first: int = -255) -> dict:
    return operator('Lookup', 'Slice', table=table, first=first, rows=rows)


def sums(term: int) -> tuple[dict, ...]:
    """Return a sum of two tensors whose grid reaches to this code."""
    grid = dict(lo=min(-255, term), hi=max(255, term))
    return PIXELS | dict(grid=grid), operator('Add', 'Slice', 'Slice')


def rows_of_one_code(count: int) -> tuple[dict, ...]:
    """Return a table of so many rows, of which the last one is read."""
    zeros = dict(m=[0], b=[0], s=[0], whole=False)
    return (
        PIXELS,
        operator('Requantize', 'Slice', hi=0, multipliers=zeros),
        operator(
            'Lookup', 'Requantize', table=[[0]] * count, first=0,
            rows=[count - 1],
        ),
    )  # fmt: skip


def without_rows(op: dict) -> dict:
    return {key: value for key, value in op.items() if key != 'rows'}


PROGRAM = [
    Refusal(
        'no operators',
        setting('program.ops', []),
        'the program: expected operators, found none',
    ),
    Refusal(
        'what no operator makes',
        setting(f'{OPS}.1.inputs', ['q']),
        r"operator 1 \(c\).inputs: expected what an earlier .*, found 'q'",
    ),
    Refusal('itself', setting(f'{OPS}.1.inputs', ['c']), "found 'c'"),
    Refusal('a later one', setting(f'{OPS}.1.inputs', ['b']), "found 'b'"),
    Refusal(
        'the image again', setting(f'{OPS}.1.inputs', ['image']), "'image'"
    ),
    Refusal(
        'a name twice',
        setting(f'{OPS}.2.output', 'c'),
        r"operator 2 \(c\).output: expected a new name, found 'c'",
    ),
    Refusal(
        'the name image', setting(f'{OPS}.2.output', 'image'), 'a new name'
    ),
    Refusal(
        'two inputs of one',
        setting(f'{OPS}.1.inputs', ['p', 'p']),
        'expected 1 inputs, found 2',
    ),
    Refusal(
        'no input of many',
        with_ops(operator('Concatenate')),
        'expected 1 or more inputs, found 0',
    ),
    Refusal(
        'another first operator',
        setting(
            f'{OPS}.0', operator('Region', 'image', output='p', channels=3)
        ),
        'expected Image, found Region',
    ),
    Refusal(
        'an image later',
        with_ops(operator('Image', 'p', lo=-255, mean=[0, 0])),
        'to be first only, found Image',
    ),
    Refusal(
        'codes upside down',
        setting(f'{OPS}.3.grid', dict(lo=1, hi=0)),
        'grid: expected lo up to hi, found 1..0',
    ),
    Refusal(
        'channels',
        setting(f'{OPS}.1.channels', 0),
        'operator c.channels: expected 1 to 65536, found 0',
    ),
    Refusal(
        'many channels',
        setting(f'{OPS}.1.channels', 65537),
        'channels: expected 1 to 65536, found 65537',
    ),
    Refusal(
        'a grid beyond int32',
        setting(f'{BOX}.grid.lo', 2**40),
        'grid.lo: expected -2147483647 to 2147483647',
    ),
    Refusal(
        'the lowest int32',
        setting(f'{BOX}.grid.lo', -(2**31)),
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
        setting(f'{OPS}.0.mean', [1, 2]),
        'operator p: expected a mean of each of its 3 channels, found 2',
    ),
    Refusal(
        'a large mean',
        setting(f'{OPS}.0.mean', [1, 2, 256]),
        'mean: expected 0 to 255',
    ),
    Refusal(
        'codes of an image',
        setting(f'{OPS}.0.grid.hi', 254),
        'a range that holds -255..255, found -255..254',
    ),
    Refusal(
        'weights that are not there',
        setting(f'{OPS}.1.weights', 'w'),
        r"operator c: expected weights that .* has \(c, b\), found 'w'",
    ),
    Refusal(
        'a window of a stride of 0',
        setting(f'{OPS}.1.stride', [0, 1]),
        'operator c.stride: expected 1 to 255, found 0 to 1',
    ),
    Refusal(
        'a kernel that weights are not of',
        setting(f'{OPS}.1.kernel', [3, 3]),
        r'weights of shape \(2, 3, 3, 3\), found \(2, 3, 1, 1\)',
    ),
    Refusal(
        'groups',
        setting(f'{OPS}.1.groups', 2),
        'groups that divide its 3 and 2 channels, found 2',
    ),
    Refusal('no groups', setting(f'{OPS}.1.groups', 0), 'found 0'),
    Refusal(
        'zero points of other channels',
        setting(f'{OPS}.1.zero', [0, 0]),
        'operator c: expected a zero point of each of 3 channels, or one, '
        'found 2',
    ),
    Refusal(
        'no zero points',
        setting(f'{OPS}.1.zero', []),
        'a zero point of each of 3 channels, or one, found 0',
    ),
    Refusal(
        'a zero point above its input',
        setting(f'{OPS}.1.zero', [256]),
        'operator c: expected an input that has the zero points 256..256, '
        'which the border is, found -255..255',
    ),
    Refusal(
        'a zero point below its input',
        setting(f'{OPS}.1.zero', [0, -256, 3]),
        'an input that has the zero points -256..3, .*, found -255..255',
    ),
    Refusal(
        'a huge zero point',
        setting(f'{OPS}.1.zero', [2**62]),
        'an input that has the zero points 4611686018427387904',
    ),
    Refusal(
        'a zero point that is no number',
        setting(f'{OPS}.1.zero', [None]),
        'ops.1.zero.0: expected type int, found null',
    ),
    Refusal(
        'a zero point that is no list',
        setting(f'{OPS}.1.zero', 0),
        'ops.1.zero: expected a list or an array, found 0',
    ),
    Refusal('no key of zero points', without(f'{OPS}.1.zero'), "'zero' missi"),
    Refusal(
        'sums of fewer bits',
        setting(f'{OPS}.1.grid.hi', 127),
        'operator c: expected the range -2147483647..2147483647',
    ),
    Refusal(
        'a convolution of sums',
        setting(f'{OPS}.2.inputs', ['c']),
        'weights of shape|codes from -32768 to 32768',
    ),
    Refusal(
        'padding of most of a window',
        with_ops(
            PIXELS,
            operator(
                'MaxPool', 'Slice', lo=-255, **(WINDOW | dict(padding=[2, 1]))
            ),
        ),
        'a padding up to half of the 3 pixels of its window, found 2',
    ),
    Refusal(
        'a pool of fewer codes',
        with_ops(PIXELS, operator('MaxPool', 'Slice', **WINDOW)),
        'operator MaxPool: expected a range that holds the codes -255..255 '
        'of its input, found 0..255',
    ),
    Refusal(
        'a pool of other channels',
        with_ops(operator('MaxPool', 'p', lo=-255, **WINDOW)),
        'the 2 channels of its output in its inputs, found 3',
    ),
    Refusal(
        'additions of sums',
        with_ops(operator('Add', 'cls', 'cls')),
        'codes from -1073741823 to 1073741823 in its input cls',
    ),
    Refusal(
        'a sum of 2^31',
        with_ops(*sums(2**30)),
        'codes from -1073741823 to 1073741823 in its input Slice',
    ),
    Refusal(
        'a sum of -2^31',
        with_ops(*sums(-(2**30))),
        'codes from -1073741823 to 1073741823 in its input Slice',
    ),
    Refusal(
        'additions of other channels',
        with_ops(PIXELS, operator('Add', 'Slice', 'p')),
        'operator Add: expected the 2 channels',
    ),
    Refusal(
        'products beyond their range',
        with_ops(PIXELS, operator('Multiply', 'Slice', 'Slice', lo=-65025)),
        'holds the codes -65025..65025 of its input, found -65025..255',
    ),
    Refusal(
        'a mean of sums',
        with_ops(operator('Mean', 'cls')),
        'codes from -32768 to 32768 in its input cls',
    ),
    Refusal(
        'a mean without fractional bits',
        with_ops(PIXELS, operator('Mean', 'Slice', lo=-255)),
        'holds the codes -65280..65280 of its input',
    ),
    Refusal(
        'a group norm of sums',
        with_ops(operator('GroupNorm', 'cls', groups=1, epsilon=1)),
        'codes from -32768 to 32768 in its input cls',
    ),
    Refusal(
        'a group norm of other channels',
        with_ops(operator('GroupNorm', 'p', groups=1, epsilon=1)),
        'operator GroupNorm: expected the 2 channels',
    ),
    Refusal(
        'a group norm without groups',
        with_ops(PIXELS, operator('GroupNorm', 'Slice', groups=0, epsilon=1)),
        'groups that divide its 2 channels, found 0',
    ),
    Refusal(
        'groups that do not divide channels',
        with_ops(
            PIXELS | dict(channels=3),
            operator('GroupNorm', 'Slice', channels=3, groups=2, epsilon=1),
        ),
        'groups that divide its 3 channels, found 2',
    ),
    Refusal(
        'a variance that may be 0',
        with_ops(PIXELS, operator('GroupNorm', 'Slice', groups=1, epsilon=0)),
        'an epsilon from 1 to 281474976710656, found 0',
    ),
    Refusal(
        'a large epsilon',
        with_ops(
            PIXELS, operator('GroupNorm', 'Slice', groups=1, epsilon=2**48 + 1)
        ),
        'an epsilon from 1 to 281474976710656, found 281474976710657',
    ),
    Refusal(
        'a table of other codes',
        with_ops(PIXELS, lookup([LOOKUP], [0], 0)),
        'a table from -255, the lowest code of its input, found 0',
    ),
    Refusal(
        'a table of one code',
        with_ops(PIXELS, lookup([LOOKUP], [0])),
        r'a table of int32, 1 x 511 numbers for the codes -255..255 '
        r'of its input, found int32 \(1,\)',
    ),
    Refusal(
        'a table of one byte',
        with_ops(PIXELS, lookup([LOOKUP | dict(dtype='uint8')], [0])),
        r'a table of int32, 1 x 511 .*, found int32 \(1,\)',
    ),
    Refusal(
        'a table that is no list',
        with_ops(PIXELS, lookup(LOOKUP, [0])),
        'table: expected a list, found an object',
    ),
    Refusal(
        'rows of version 5 in version 4',
        as_version(4, with_ops(PIXELS, lookup([LOOKUP], [0]))),
        'table.0: expected type int, found an object',
    ),
    Refusal(
        'a table of no rows',
        with_ops(PIXELS, lookup([], [0])),
        r'a table of int32, 1 x 511 .*, found int32 \(0,\)',
    ),
    Refusal(
        'a row that is no array',
        with_ops(PIXELS, lookup([1], [0])),
        'table.0: expected an object, found 1',
    ),
    Refusal(
        'a row of two axes',
        with_ops(PIXELS, lookup([LOOKUP | dict(shape=[1, 1])], [0])),
        'table: expected rows of one axis, found 2',
    ),
    Refusal(
        'a table of int16 in version 3',
        as_version(
            3,
            with_ops(
                PIXELS,
                without_rows(lookup(LOOKUP | dict(dtype='int16'), [0])),
            ),
        ),
        'table.dtype: expected uint8, int32, int64, found "int16"',
    ),
    Refusal(
        'rows in version 3',
        as_version(3, with_ops(PIXELS, lookup(LOOKUP, [0]))),
        "found 'rows' besides",
    ),
    Refusal(
        'a table of rows that are too few',
        with_ops(PIXELS, lookup([LOOKUP], [0, 1])),
        r'2 x 511 numbers for the codes -255..255 .*, found int32 \(1,\)',
    ),
    Refusal(
        'many rows',
        with_ops(PIXELS, lookup([LOOKUP], [2**62])),
        r'4611686018427387905 x 511 numbers|rows: expected 0 to',
    ),
    Refusal(
        'a negative row',
        with_ops(PIXELS, lookup([LOOKUP], [0, -1])),
        'operator Lookup.rows: expected 0 to 65535, found -1 to 0',
    ),
    Refusal(
        'a row beyond all channels',
        with_ops(*rows_of_one_code(65537)),
        'operator Lookup.rows: expected 0 to 65535, found 65536',
    ),
    Refusal(
        'rows of other channels',
        with_ops(PIXELS, lookup([LOOKUP], [0, 0, 0])),
        'a row for each of its 2 channels, or one, found 3, from 0',
    ),
    Refusal(
        'no rows',
        with_ops(PIXELS, lookup([LOOKUP], [])),
        'a row for each of its 2 channels, or one, found 0',
    ),
    Refusal(
        'larger maps of other channels',
        with_ops(PIXELS, operator('Upsample', 'p', 'Slice', lo=-255)),
        'operator Upsample: expected the 2 channels',
    ),
    Refusal(
        'channels together',
        with_ops(PIXELS, operator('Concatenate', 'p', 'Slice', lo=-255)),
        'operator Concatenate: expected the 5 channels of its inputs, found 2',
    ),
    Refusal(
        'channels behind the last',
        with_ops(PIXELS | dict(first=2)),
        'operator Slice: expected 2 of the 3 channels of its input, found '
        'those from 2',
    ),
    Refusal(
        'channels before the first', with_ops(PIXELS | dict(first=-1)), '-1'
    ),
    Refusal(
        'a step of 0',
        with_ops(PIXELS | dict(step=[0, 1])),
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
            setting(f'{POST}.margin', 16384)(c)
        ),
        'at most 46340, so that areas fit 63 bits, found 49152',
    ),
    Refusal(
        'keep',
        setting(f'{POST}.keep', 0),
        'postprocess.keep: expected 1 to 1048576, found 0',
    ),
    Refusal(
        'half of a curve',
        setting(f'{POST}.scores.curve.first', 0),
        'scores.curve: expected arguments from -1048576 to above 1048576',
    ),
    Refusal(
        'bits of a curve',
        setting(f'{POST}.scores.curve.bits', 25),
        'curve.bits: expected 0 to 24, found 25',
    ),
    Refusal(
        'outputs of one kind',
        without('program.outputs.1'),
        'expected 2 kinds of maps of 1 levels, found maps of .1. levels',
    ),
    Refusal(
        'no levels',
        lambda c: setting(f'{POST}.decoder.levels', [])(
            setting('program.outputs.0.tensors', [])(
                setting('program.outputs.1.tensors', [])(c)
            )
        ),
        'postprocess.decoder.levels: expected one level or more, found none',
    ),
    Refusal(
        'maps of codes',
        setting(f'{OPS}.3.grid', dict(lo=0, hi=255)),
        'operator cls: expected a range of int32, found uint8',
    ),
    Refusal(
        'a limit of exponents',
        setting(f'{POST}.decoder.limit', 2**21),
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
