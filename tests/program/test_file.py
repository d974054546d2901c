"""Files: what is written is read back; what is damaged is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from tests.damage import of_version_3, sections
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
    (tmp_path / 'm.aqd.part').mkdir()  # cannot be written to
    with pytest.raises(OSError):
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


ROW = np.arange(511, dtype=np.int16)


def test_zero_points_and_rows_are_read_back():
    ops = list(detector().program.ops)
    conv = replace(ops[1], output='z', zero=(1, -2, 255))
    table = lookup('l', np.tile(ROW, 2), 1, 0, 1)
    found = file.from_bytes(with_ops(conv, table)).program.ops[-2:]
    assert found[0] == conv
    assert found[1].rows == (1, 0, 1)
    assert found[1].table.dtype == np.int16
    assert np.array_equal(found[1].table, table.table)


def test_arrays_of_the_same_content_are_stored_once():
    other = ROW[::-1].copy()
    names = [('q', ROW), ('r', other), ('s', ROW.copy()), ('t', other)]
    content = with_ops(*(lookup(*each, 0) for each in names))
    text, data = sections(content)
    ops = json.loads(text)['program']['ops'][-4:]
    places = [op['table']['at'] for op in ops]
    # 511 numbers of 16 bits, up to a multiple of 8.
    assert places == [places[0], places[0] + 1024] * 2
    one = sections(with_ops(lookup('q', ROW, 0)))[1]
    assert len(data) == len(one) + 1024
    for op, (_, row) in zip(
        file.from_bytes(content).program.ops[-4:], names, strict=True
    ):
        assert np.array_equal(op.table, row)


def test_a_file_of_version_3_is_read():
    content = with_ops(lookup('l', ROW.astype(np.int32), 0))
    old = of_version_3(content)
    assert b'"zero"' not in old and b'"rows"' not in old
    # What is read is what version 4 has.
    assert file.to_bytes(file.from_bytes(old)) == content
