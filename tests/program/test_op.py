"""Operators: their grids."""

from aqd_mmdet.program import ops as ir


def test_dtypes_are_the_smallest():
    cases = {(0, 255): 'uint8', (-127, 127): 'int8', (-1024, 1024): 'int16'}
    for (lo, hi), name in cases.items():
        assert ir.Grid(lo, hi).dtype.name == name
    assert ir.INT32.dtype.name == 'int32'
