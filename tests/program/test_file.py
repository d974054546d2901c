"""Files: what is written is read back; what is damaged is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
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
