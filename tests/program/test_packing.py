import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.packing import pack, unpack


@given(
    bits=st.integers(2, 8), levels=st.lists(st.integers(0, 255), min_size=1)
)
def test_packing(bits, levels):
    array = np.array(levels, np.uint8) & (2**bits - 1)
    packed = pack(array, bits)
    assert len(packed) == -(-len(levels) * bits // 8)
    assert np.array_equal(unpack(packed, bits, len(array)), array)


def test_packing_has_the_first_in_the_lowest_bits():
    assert pack(np.array([1, 2, 3, 0, 2]), 2).tolist() == [0x39, 0x02]


@pytest.mark.parametrize(
    'bits,codes',
    [(2, [-3, -1, 1, 3]), (3, [-7, 7, 1]), (7, [-127, 127]), (8, [-127, 127])],
)
def test_codes_are_unpacked_as_they_were(bits, codes):
    array = np.array(codes, np.int8).reshape(-1, 1, 1, 1)
    weights = ir.Weights.of(array, bits)
    assert weights.packed.size == -(-len(codes) * bits // 8)
    assert weights.codes.dtype == np.int8
    assert np.array_equal(weights.codes, array)
