"""Requantisations in the engine: exact, above all at the edges of codes."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from tests.operators import program_of, run_program
from tests.roundings import lookup_between, requantisation

HALF = 2**23  # of 2^24
# Of the C library's fesetround.
UPWARD = {'x86_64': 0x800, 'aarch64': 0x400000}

EDGES = [
    # Halves, upwards; the grid is 0..255.
    (HALF, HALF, 24, {-1: 0, 0: 0, 1: 1, 2: 1, 3: 2, 508: 254, 509: 255}),
    (-HALF, HALF, 24, {1: 0, 0: 0, -1: 1, -2: 1, -508: 254, -509: 255}),
    # Just below them.
    (HALF, HALF - 1, 24, {1: 0, 2: 1, 3: 1, 509: 254, 510: 255}),
    # A ratio of 3/4, whose sums have four rests.
    (3, 0, 2, {-1: 0, 0: 0, 1: 0, 2: 1, 3: 2, 4: 3, 339: 254, 341: 255}),
    # Steps of more than one code.
    (5, 2, 0, {-1: 0, 0: 2, 1: 7, 50: 252, 51: 255, 32767: 255}),
    (-83, 7, 0, {1: 0, 0: 7, -1: 90, -2: 173, -3: 255}),
    # One code for all values, or two.
    (0, 77, 0, {-32768: 77, 0: 77, 32767: 77}),
    (1, 9 * 2**40, 40, {-32768: 8, -1: 8, 0: 9, 32767: 9}),
    # A number of more bits than a float has.
    (2**30 + 1, 2**30, 31, {-1: 0, 0: 0, 1: 1, 508: 254, 509: 255}),
]


@pytest.mark.parametrize(('m', 'b', 's', 'codes'), EDGES)
def test_codes_at_their_edges(m, b, s, codes):
    rounding = Multipliers(
        np.array([m], np.int32), np.array([b], np.int64),
        np.array([s], np.uint8),
    )  # fmt: skip
    op = ir.Requantize('y', ('x',), 20, ir.Grid(0, 255), rounding)
    x = np.array([*codes], np.int16)[None, None, None].repeat(20, 1)
    found = run_program(*program_of(op, [x], {}))['y']
    assert (found == np.array([*codes.values()])).all()


@pytest.mark.parametrize('make', [requantisation, lookup_between])
@given(seed=st.integers(0, 9999))
@settings(max_examples=150, deadline=None)
def test_all_codes_at_their_edges(make, seed):
    program, region = make(seed)
    expected = reference.run(program, region)
    found = run_program(program, region)
    for name, codes in expected.items():
        assert np.array_equal(found[name], codes)


@contextmanager
def rounding_upwards() -> Iterator[None]:
    """Round floats of this thread upwards; assert that they still are."""
    library = ctypes.CDLL(None)
    before, mode = library.fegetround(), UPWARD[platform.machine()]
    assert library.fesetround(mode) == 0
    try:
        yield
        assert library.fegetround() == mode
    finally:
        library.fesetround(before)


@pytest.mark.skipif(
    platform.machine() not in UPWARD, reason='the mode has another number'
)
def test_the_rounding_of_a_thread_does_not_matter():
    for seed in range(20):
        program, region = requantisation(seed)
        expected = reference.run(program, region)
        with rounding_upwards():
            found = run_program(program, region)
        assert np.array_equal(found['y'], expected['y'])
