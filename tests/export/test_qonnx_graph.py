"""Widths of integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.export.qonnx_graph import Width, width_of
from aqd_mmdet.program import ops as ir

ENDS = st.integers(-(2**24), 2**24)


@pytest.mark.parametrize(
    'ends, name, narrow',
    [
        ((0, 3), 'UINT2', False),
        ((0, 0), 'UINT2', False),
        ((1, 4), 'UINT3', False),
        ((0, 255), 'UINT8', False),
        ((-1, 0), 'INT2', True),
        ((-2, 1), 'INT2', False),
        ((-3, 3), 'INT3', True),
        ((-9, -9), 'INT5', True),
        ((-127, 127), 'INT8', True),
        ((-128, 3), 'INT8', False),
        ((-255, 255), 'INT9', True),
        ((-1, 128), 'INT9', True),
    ],
)
def test_widths(ends, name, narrow):
    width = width_of(ir.Grid(*ends))
    assert (width.name, width.narrow) == (name, narrow)


@given(lo=ENDS, hi=ENDS)
def test_the_fewest_bits(lo, hi):
    grid = ir.Grid(min(lo, hi), max(lo, hi))
    width = width_of(grid)
    assert width.signed == (grid.lo < 0)
    assert width.grid.holds(grid)
    fewer = Width(width.bits - 1, width.signed, False)
    assert width.bits == 2 or not fewer.grid.holds(grid)
