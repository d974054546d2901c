"""Functions of integers that need no table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.runtime.curves import square_root


@given(x=st.integers(0, 2**62 - 1))
def test_square_roots_are_floored(x):
    root = int(square_root(np.array([x]))[0])
    assert root * root <= x < (root + 1) ** 2
