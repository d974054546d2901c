import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
