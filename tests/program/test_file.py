"""Files: what is written is read back; what is damaged is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.patches import patched
from aqd_mmdet.program import container, file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.engine import Engine
from tests.damage import of_version, sections
from tests.factories import detector, table


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
    with pytest.raises(UserError, match='levels of 8 bits up to 254'):
        file.from_bytes(content)


def test_an_earlier_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / 'm.aqd'
    path.write_text('mine')

    def full(path, mode):
        raise OSError('no space left')

    with patched(Path, open=full), pytest.raises(OSError):
        file.save(detector(), path)
    assert path.read_text() == 'mine'


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r'model .*no\.aqd: no such file'):
        file.load(tmp_path / 'no.aqd')


CONTENT = file.to_bytes(detector())


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


def test_a_program_that_could_overflow_is_refused():
    whole = detector()
    ops = list(whole.program.ops)
    wide = replace(table(4), b=np.full(4, 2**63 - 1, np.int64))
    ops[4] = replace(ops[4], multipliers=wide)
    program = replace(whole.program, ops=tuple(ops))
    content = file.to_bytes(replace(whole, program=program))
    with pytest.raises(UserError, match='operator box: .* 63 bits'):
        file.from_bytes(content)


def with_ops(*ops: ir.Op) -> bytes:
    """The content of a file whose network has operators more."""
    whole = detector()
    program = replace(whole.program, ops=(*whole.program.ops, *ops))
    return file.to_bytes(replace(whole, program=program))


def lookup(name: str, codes: np.ndarray, *rows: int) -> ir.Lookup:
    """A table for the image's codes."""
    grid = ir.Grid(-(2**15), 2**15 - 1)
    return ir.Lookup(name, ('p',), 3, grid, codes, -255, rows)


ROW = np.arange(511, dtype=np.int32)


def test_zero_points_and_rows_are_read_back():
    ops = list(detector().program.ops)
    conv = replace(ops[1], output='z', zero=(1, -2, 255))
    table = lookup('l', np.tile(ROW, 2), 1, 0, 1)
    found = file.from_bytes(with_ops(conv, table)).program.ops[-2:]
    assert found[0] == conv
    assert found[1].rows == (1, 0, 1)
    assert found[1].table.dtype == np.int32
    assert np.array_equal(found[1].table, table.table)


def nodes_of(content: bytes, count: int) -> list[dict]:
    """The structure's last operators."""
    ops: list[dict] = json.loads(sections(content)[0])['program']['ops']
    return ops[-count:]


def test_rows_of_the_same_content_are_stored_once():
    other = ROW[::-1].copy()
    both = np.concatenate([other, ROW])
    names = [('q', ROW, 0), ('r', other, 0), ('s', both, 0, 1, 1)]
    content = with_ops(*(lookup(*each) for each in names))
    places = [
        [row['at'] for row in op['table']] for op in nodes_of(content, 3)
    ]
    at = places[0][0]
    # 511 numbers of 16 bits, up to a multiple of 8.
    assert places == [[at], [at + 1024], [at + 1024, at]]
    one = sections(with_ops(lookup('q', ROW, 0)))[1]
    assert len(sections(content)[1]) == len(one) + 1024 + 8  # rows of 's'
    for op, (_, codes, *_) in zip(
        file.from_bytes(content).program.ops[-3:], names, strict=True
    ):
        assert np.array_equal(op.table, codes)


def multipliers(b: list[int], s: list[int]) -> Multipliers:
    return Multipliers(
        np.array([2**23, -3, 2**31 - 1], np.int32),
        np.array(b, np.int64),
        np.array(s, np.uint8),
    )


@pytest.mark.parametrize(
    ('b', 's', 'stored'),
    [
        # 3, -2 and 0 whole steps, and the half.
        ([7 << 32, -3 << 32, 1 << 9], [33, 33, 10], ('int8', True)),
        ([5, -5, 0], [0, 0, 0], ('int8', True)),
        # As large as offsets may be, and the largest shift.
        ([-(2**61) + 2**46, 2**61 + 2**46, 1], [47, 47, 1], ('int16', True)),
        ([(2**14 + 1) << 1 | 1, 1, 1], [1, 1, 1], ('uint24', False)),
        ([7 << 32, 1, 1], [33, 33, 10], ('int40', False)),
        ([2**46, -1, 0], [3, 3, 3], ('int48', False)),
        ([2**61 + 1, 0, 0], [3, 3, 3], ('int64', False)),
    ],
)
def test_biases_are_read_back(b, s, stored):
    table = multipliers(b, s)
    op = ir.Requantize('q', ('p',), 3, ir.Grid(0, 255), table)
    content = with_ops(op)
    node = nodes_of(content, 1)[0]['multipliers']
    assert (node['b']['dtype'], node['whole']) == stored
    found = file.from_bytes(content).program.ops[-1].multipliers
    for name, dtype in (('m', np.int32), ('b', np.int64), ('s', np.uint8)):
        array = getattr(found, name)
        assert array.dtype == dtype
        assert array.tolist() == getattr(table, name).tolist()


def test_offsets_share_the_content_of_zero_points():
    zeros = (3, 0, 17)
    offsets = np.array(zeros) << 33 | 1 << 32
    table = multipliers(offsets.tolist(), [33] * 3)
    op = ir.Requantize('q', ('p',), 3, ir.Grid(0, 255), table)
    conv = replace(
        detector().program.ops[1], output='z', inputs=('q',), zero=zeros
    )
    first, second = nodes_of(with_ops(op, conv), 2)
    assert first['multipliers']['b'] == second['zero']


def test_the_numbers_begin_at_a_multiple_of_8():
    for length in range(8):
        content = file.to_bytes(
            replace(detector(), labels=('a', 'x' * length))
        )
        text = container.SECTION.unpack_from(content, 16)[2]
        assert (48 + text) % 8 == 0
        assert file.from_bytes(content).labels == ('a', 'x' * length)


@pytest.mark.parametrize('version', [3, 4])
def test_a_file_of_an_earlier_version_is_read(version):
    content = with_ops(lookup('l', ROW, 0))
    old = of_version(version, content)
    assert (b'"zero"' in old) == (b'"rows"' in old) == (version == 4)
    # What is read is what the newest version has.
    assert file.to_bytes(file.from_bytes(old)) == content


@pytest.mark.parametrize(
    ('version', 'zero', 'rows'),
    [(3, (0,), (0,)), (4, (1, -2, 255), (1, 0, 1))],
)
def test_what_earlier_releases_wrote(version, zero, rows):
    """Files that releases of these versions wrote, not this one."""
    path = Path(__file__).parent / f'files/version_{version}.aqd'
    old, content = file.load(path)
    assert content[8] == version
    conv, table = old.program.ops[1], old.program.ops[-1]
    assert (conv.zero, table.rows) == (zero, rows)
    first = np.arange(255, -256, -1)
    parts = [first, first // 2][: len(set(rows))]
    assert table.table.tolist() == np.concatenate(parts).tolist()
    new = file.to_bytes(old)
    assert len(new) < len(content)
    assert file.to_bytes(file.from_bytes(new)) == new
    pixels = np.random.default_rng(0).integers(
        0, 256, (1, 3, 16, 24), np.uint8
    )
    expected = reference.run(old.program, pixels)
    for each in (content, new):
        found = Engine(old, each, 1).run(old.program, pixels)
        for name, values in expected.items():
            assert np.array_equal(found[name], values)
