"""Weights: codes are unpacked as they were."""

import numpy as np
import pytest

from aqd_mmdet.program import ops as ir


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
