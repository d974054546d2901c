"""Files: what is written is read back; what is damaged is refused."""

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    AnchorLevel,
    Anchors,
    CompiledDetector,
    Curve,
    PostProcess,
    PreProcess,
    Sigmoid,
)
from aqd_mmdet.program.fixed_point import Multipliers


def table(channels: int) -> Multipliers:
    return Multipliers(
        np.full(channels, 5, np.int32),
        np.full(channels, 4, np.int64),
        np.full(channels, 3, np.uint8),
    )


def curve(values: list[int]) -> Curve:
    return Curve(np.array(values, np.int32), -(2**24), 24)


def detector() -> CompiledDetector:
    """A detector of one level, as small as one can be."""
    one = (1, 1)

    def conv(name: str, channels: int) -> ir.Convolution:
        return ir.Convolution(
            name, ('p',), channels, ir.INT32, one, one, (0, 0), one, name, 1
        )

    ops = (
        ir.Image('p', ('image',), 3, ir.Grid(-255, 255), (124, 116, 104)),
        conv('c', 2),
        conv('b', 4),
        ir.Requantize('cls', ('c',), 2, ir.INT32, table(1)),
        ir.Requantize('box', ('b',), 4, ir.INT32, table(4)),
    )
    rng = np.random.default_rng(0)
    weights = {
        'c': ir.Weights.of(
            rng.choice([-3, -1, 1, 3], (2, 3, 1, 1)).astype(np.int8), 2
        ),
        'b': ir.Weights.of(
            rng.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8), 8
        ),
    }
    outputs = (ir.Output(('cls',), 0.25), ir.Output(('box',), 0.125))
    base = np.array([[0, 0, 4096, 8192]], np.int32)
    post = PostProcess(
        Anchors(
            (AnchorLevel((8, 8), base),), table(4), 1000, curve([2**16] * 3)
        ),
        Sigmoid(table(1), curve([0, 2**23, 2**24])),
        -7,
        1000,
        1000,
        0,
        32768,
        100,
    )
    return CompiledDetector(
        ir.Program(ops, weights, outputs, 8),
        PreProcess(160, 160, False, (1, 2, 3), False, False),
        post,
        None,
        ('cat', 'dög'),
    )


def test_what_is_written_is_read_back():
    content = file.to_bytes(detector())
    again = file.from_bytes(content)
    assert file.to_bytes(again) == content
    assert again.labels == ('cat', 'dög')
    for name, weights in detector().program.weights.items():
        assert np.array_equal(again.program.weights[name].codes, weights.codes)


def test_a_level_of_no_code_is_refused():
    # 255 levels of 8 bits are -127..127.
    whole = detector()
    weights = whole.program.weights['b']
    weights.packed[0] = 255
    program = replace(
        whole.program, weights={**whole.program.weights, 'b': weights}
    )
    content = file.to_bytes(replace(whole, program=program))
    with pytest.raises(UserError, match='codes of its grid'):
        file.from_bytes(content)


def test_an_earlier_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / 'm.aqd'
    path.write_text('mine')
    (tmp_path / 'm.aqd.part').mkdir()  # cannot be written to
    with pytest.raises(OSError):
        file.save(detector(), path)
    assert path.read_text() == 'mine'


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r'model .*no\.aqd: no such file'):
        file.load(tmp_path / 'no.aqd')


CONTENT = file.to_bytes(detector())
START = file.HEADER.size + 2 * file.SECTION.size


@pytest.mark.parametrize('share', np.linspace(0, 1, 40, endpoint=False))
def test_cut_off_anywhere(share):
    with pytest.raises(UserError):
        file.from_bytes(CONTENT[: int(len(CONTENT) * share)])


@given(at=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_one_bit_is_noticed(at, bit):
    damaged = bytearray(CONTENT)
    damaged[at] ^= 1 << bit
    with pytest.raises(UserError):
        file.from_bytes(bytes(damaged))


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: b'PK' + c[2:], 'not an .aqd file'),
        (lambda c: c[:8] + struct.pack('<I', 9) + c[12:], 'version 9 is not'),
        (lambda c: c[:12] + struct.pack('<I', 3) + c[16:], '2 sections'),
        (lambda c: c[:24] + struct.pack('<Q', 2**60) + c[32:], 'not whole'),
        (lambda c: c[:-1] + b'x', 'checksum'),
        (lambda c: c + b'x', 'where its sections end'),
    ],
)
def test_lies_in_the_header(change, message):
    with pytest.raises(UserError, match=message):
        file.from_bytes(change(CONTENT))


def rewritten(change) -> bytes:
    """Change the structure, with the checksum made right again."""
    length = struct.unpack_from('<Q', CONTENT, 24)[0]
    tree = json.loads(CONTENT[START : START + length])
    change(tree)
    text = json.dumps(tree).encode()
    header = file.HEADER.pack(file.MAGIC, file.VERSION, 2)
    data = CONTENT[START + length :]
    sections = [
        file.SECTION.pack(tag, zlib.crc32(payload), len(payload))
        for tag, payload in zip(file.TAGS, (text, data), strict=True)
    ]
    return b''.join([header, *sections, text, data])


def setting(*path, value):
    def change(tree):
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    return change


OPS = ('program', 'ops')


@pytest.mark.parametrize(
    'change, message',
    [
        (setting('labels', value='cat'), 'labels is not a list'),
        (setting('labels', value=['cat']), 'of the labels'),
        (setting('extra', value=1), 'not the keys'),
        (setting(*OPS, 0, 'kind', value='Shell'), 'ops.0 is not a kind'),
        (setting(*OPS, 1, 'inputs', value=['q']), "what exists: 'q'"),
        (setting(*OPS, 1, 'inputs', value=['c']), "what exists: 'c'"),
        (setting(*OPS, 2, 'output', value='c'), 'a new name'),
        (setting(*OPS, 1, 'weights', value='w'), "with weights: 'w'"),
        (setting(*OPS, 1, 'stride', value=[0, 1]), 'between 1 and 255'),
        (setting(*OPS, 1, 'kernel', value=[3, 3]), 'of weights'),
        (setting(*OPS, 1, 'channels', value=1.5), 'of type int'),
        (setting(*OPS, 1, 'channels', value=True), 'of type int'),
        (setting(*OPS, 1, 'channels', value=10**30), '64 bits'),
        (setting(*OPS, 1, 'groups', value=2), 'multiples of its groups'),
        (setting(*OPS, 4, 'grid', 'lo', value=2**40), 'between'),
        (
            setting(*OPS, 4, 'multipliers', 'm', 'at', value=2**20 * 8),
            'numbers inside',
        ),
        (
            setting(*OPS, 4, 'multipliers', 'm', 'shape', value=[2**30] * 9),
            'numbers inside',
        ),
        (
            setting(*OPS, 4, 'multipliers', 'm', 'shape', value=[-1]),
            'such a shape',
        ),
        (
            setting(*OPS, 4, 'multipliers', 'm', 'dtype', value='float64'),
            'one of uint8',
        ),
        (setting('program', 'weights', 'c', 'bits', value=9), '2 to 8 bits'),
        (
            setting('program', 'weights', 'c', 'shape', value=[2, 9, 1, 1]),
            'packed bytes',
        ),
        (
            setting('program', 'outputs', 0, 'tensors', value=['gone']),
            "output 'gone'",
        ),
        (setting('program', 'stride', value=0), 'between'),
        (setting('preprocess', 'short', value=10**6), 'between'),
        (
            setting('postprocess', 'scores', 'curve', 'first', value=0),
            'whole range',
        ),
        (
            setting('postprocess', 'scores', 'kind', value='Points'),
            'a kind of Sigmoid',
        ),
        (setting('postprocess', 'keep', value=0), 'between'),
    ],
)
def test_a_structure_that_lies(change, message):
    with pytest.raises(UserError, match=message):
        file.from_bytes(rewritten(change))


@pytest.mark.parametrize(
    'text', [b'[' * 100000, b'{"labels": NaN}', b'\xff\xfe', b'']
)
def test_not_json(text):
    header = file.HEADER.pack(file.MAGIC, file.VERSION, 2)
    sections = file.SECTION.pack(b'JSON', zlib.crc32(text), len(text))
    sections += file.SECTION.pack(b'DATA', zlib.crc32(b''), 0)
    with pytest.raises(UserError, match='JSON'):
        file.from_bytes(header + sections + text)


def test_a_program_that_could_overflow_is_refused():
    whole = detector()
    ops = list(whole.program.ops)
    wide = replace(table(4), b=np.full(4, 2**63 - 1, np.int64))
    ops[4] = replace(ops[4], multipliers=wide)
    program = replace(whole.program, ops=tuple(ops))
    content = file.to_bytes(replace(whole, program=program))
    with pytest.raises(UserError, match='box: .* 63 bits'):
        file.from_bytes(content)
