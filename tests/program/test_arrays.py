"""The numbers of arrays in a file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.program import arrays


@pytest.mark.parametrize(
    ('low', 'high', 'name'),
    [
        (0, 0, 'uint8'),
        (0, 255, 'uint8'),
        (-1, 127, 'int8'),
        (-128, 128, 'int16'),
        (0, 256, 'int16'),
        (0, 2**15, 'uint24'),
        (0, 2**24 - 1, 'uint24'),
        (-1, 2**23, 'int32'),
        (0, 2**31, 'int40'),
        (-(2**39), 2**39 - 1, 'int40'),
        (-(2**39) - 1, 0, 'int48'),
        (-(2**47), 2**47 - 1, 'int48'),
        (0, 2**47, 'int64'),
        (-(2**63), 2**63 - 1, 'int64'),
    ],
)
def test_the_smallest_type(low, high, name):
    array = np.array([low, high], np.int64)
    assert arrays.smallest(array, (1, 2, 3, 4, 5, 6, 7, 8)) == name
    assert arrays.DTYPES[arrays.smallest(array)][0] in (1, 2, 4, 8)
    content = arrays.to_bytes(array, name)
    width, limit = arrays.DTYPES[name]
    assert len(content) == 2 * width == int(name.split('int')[1]) // 4
    assert limit.least <= low and high <= limit.most
    found = arrays.from_bytes(memoryview(content), name)
    assert found.tolist() == [low, high]
    # Each number for itself, as Python has it.
    signed = name[0] == 'i'
    for at, number in ((0, low), (width, high)):
        part = content[at : at + width]
        assert int.from_bytes(part, 'little', signed=signed) == number


@given(
    data=st.data(),
    name=st.sampled_from(list(arrays.DTYPES)),
    count=st.integers(0, 5),
)
def test_numbers_are_read_back(data, name, count):
    _, limit = arrays.DTYPES[name]
    number = st.integers(limit.least, limit.most)
    numbers = data.draw(st.lists(number, min_size=count, max_size=count))
    content = arrays.to_bytes(np.array(numbers, np.int64), name)
    found = arrays.from_bytes(memoryview(content), name)
    assert found.dtype == np.int64
    assert found.tolist() == numbers
