from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program.fixed_point import FixedPoint, real_multipliers
from tests.oracle import requantized

WIDTH_4 = FixedPoint(4)


@pytest.mark.parametrize(
    'ratio, offset, m, b, s',
    [
        # ratio = m / 2^s; b = (offset + 1/2) * 2^s
        (1.0, 0.0, 8, 4, 3),
        (-1.0, 0.0, -8, 4, 3),
        (0.5, 2.0, 8, 40, 4),
        (0.75, -1.0, 12, -8, 4),
        (15.0, 0.0, 15, 1, 0),  # floor(1/2 + 1/2)
        (0.96875, 0.0, 8, 4, 3),  # 15.5 rounds up to 16: one shift less
        (2.0**-60, 3.0, 0, 7 * 2**46, 47),  # the shift's limit
        (0.0, -0.5, 0, 0, 47),
    ],
)
def test_literal_values(ratio, offset, m, b, s):
    table = real_multipliers(np.array([ratio]), np.array([offset]), WIDTH_4)
    assert (table.m[0], table.b[0], table.s[0]) == (m, b, s)
    assert table.m.dtype == np.int32
    assert table.b.dtype == np.int64
    assert table.s.dtype == np.uint8


@pytest.mark.parametrize(
    'a, expected', [(1, 1), (2, 1), (3, 2), (-1, 0), (-2, -1), (-3, -1)]
)
def test_ties_go_up(a, expected):
    table = real_multipliers(np.array([0.5]), np.array([0.0]), FixedPoint())
    m, b, s = int(table.m[0]), int(table.b[0]), int(table.s[0])
    assert requantized(a, m, b, s, -9, 9) == expected


@given(
    ratio=st.floats(1e-12, 1e3) | st.floats(-1e3, -1e-12),
    offset=st.floats(-1e3, 1e3),
    a=st.integers(-(2**28), 2**28),
    width=st.integers(12, 31),
)
def test_the_integers_are_as_near_as_their_width_allows(
    ratio, offset, a, width
):
    table = real_multipliers(
        np.array([ratio]), np.array([offset]), FixedPoint(width)
    )
    m, b, s = int(table.m[0]), int(table.b[0]), int(table.s[0])
    real = Fraction(ratio) * a + Fraction(offset)
    found = Fraction(a * m + b, 2**s) - Fraction(1, 2)
    error = abs(Fraction(ratio) * a) / 2**width + Fraction(1, 2**16)
    # The bias itself is rounded to a unit of the product.
    assert abs(found - real) <= error + Fraction(1, 2**s)


@pytest.mark.parametrize(
    'ratio, offset, message',
    [
        (1e30, 0.0, 'steps of the next grid'),
        (1.0, 1e30, 'steps of the next grid'),
        (float('nan'), 0.0, 'not finite'),
        (1.0, float('inf'), 'not finite'),
    ],
)
def test_what_does_not_fit_is_refused(ratio, offset, message):
    with pytest.raises(UserError, match=message):
        real_multipliers(np.array([ratio]), np.array([offset]), FixedPoint())


@pytest.mark.parametrize('ratio', [0.0, 2.0**-30, 2.0**-40])
def test_small_ratios_have_large_offsets_in_32_bits(ratio):
    offset = 2.0**30 + 3
    ratios, offsets = np.array([ratio]), np.array([offset])
    with pytest.raises(UserError, match='steps of the next grid'):
        real_multipliers(ratios, offsets, FixedPoint())
    table = real_multipliers(ratios, offsets, FixedPoint(), wide=True)
    m, b, s = int(table.m[0]), int(table.b[0]), int(table.s[0])
    for a in (0, 2**24, -(2**24)):
        made = requantized(a, m, b, s, -(2**31) + 1, 2**31 - 1)
        assert abs(made - (a * ratio + offset)) <= 1


def test_larger_offsets_are_refused_in_32_bits_too():
    with pytest.raises(UserError, match='steps of the next grid'):
        real_multipliers(0.0, 2.0**40, FixedPoint(), wide=True)


@pytest.mark.parametrize('bits', [0, 1, 32, 2.0, '24', True])
def test_impossible_widths(bits):
    with pytest.raises(UserError, match='multiplier_bits'):
        FixedPoint(bits)
