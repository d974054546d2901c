"""QuantizeLinear of what a table has is exact, or not there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export import onnx_tables
from aqd_mmdet.export.qdq_model import network
from aqd_mmdet.export.qdq_tables import (
    QuantizedLookup,
    floats_near,
    scale_of,
    zero_of,
)
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import (
    FixedPoint,
    Multipliers,
    real_multipliers,
)
from aqd_mmdet.runtime import reference
from tests.export.models import from_pixels, requantize, run_onnxruntime
from tests.export.test_qdq_model import model
from tests.specification.random_operators import random_operator

BYTES = ir.Grid(0, 255)
GRIDS = [BYTES, ir.Grid(0, 15), ir.Grid(-128, 127), ir.Grid(-3, 4)]


@pytest.fixture(autouse=True, scope='module')
def no_tables_of_tables():
    """What is behind a small table would be part of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_tables, 'MAX_TABLE', 0)
        yield


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_tables(seed):
    rng = np.random.default_rng(seed)
    program, image = from_pixels(*random_operator('Lookup', seed))
    (*_, lookup) = program.ops
    grid = GRIDS[rng.integers(len(GRIDS))]
    count = int(rng.choice([1, lookup.channels]))
    largest = max(np.abs(lookup.table).max(), 1)
    ratio = rng.uniform(0.1, 2, count) * len(grid) / largest
    ratio *= rng.choice([1, 1, 1, -1])
    offset = rng.integers(grid.lo - 1, grid.hi + 2, count).astype(float)
    offset += rng.choice([0, 0, 0.25])
    op = ir.Requantize(
        'last', ('y',), lookup.channels, grid,
        real_multipliers(ratio, offset, FixedPoint()),
    )  # fmt: skip
    program = replace(
        program, ops=(*program.ops, op), outputs=(ir.Output(('last',), 1.0),)
    )
    exported = model(program)
    found = run_onnxruntime(exported, image=image)['last']
    expected = reference.run(program, image)['last']
    assert np.array_equal(found, expected.astype(np.float32))


def lookup_of(*table: int) -> ir.Lookup:
    return ir.Lookup(
        'y', ('x',), 1, ir.Grid(min(table), max(table)),
        np.array(table, np.int32), 0,
    )  # fmt: skip


def op_of(grid: ir.Grid, m: int, b: int, s: int, *table: int):
    multipliers = Multipliers(
        np.array([m], np.int32), np.array([b]), np.array([s], np.uint8)
    )
    return QuantizedLookup(
        'z', ('y',), 1, grid, multipliers, lookup_of(*table)
    )


def test_the_nearest_scale_that_is_exact():
    op = op_of(BYTES, 3, 1, 1, 0, 1, 2, 100)
    assert scale_of(op, 0, 3, 1, 1) == np.float32(2 / 3)
    # 3 / 2 is a tie, which becomes 2 in both; 5 * 1 / 2 becomes 3, but an even
    # number in QuantizeLinear: a smaller scale makes more of it.
    op = op_of(BYTES, 1, 1, 1, 0, 3, 5)
    scale = scale_of(op, 0, 1, 1, 1)
    assert scale == np.nextafter(np.float32(2), np.float32(0))


@pytest.mark.parametrize(
    'grid, m, b, s',
    [
        (BYTES, -1, 1, 1),
        (BYTES, 0, 1, 1),
        # A quarter of a step besides the half.
        (BYTES, 1, 3, 2),
        # 0 is no byte.
        (BYTES, 1, 1 + 2 * 256, 1),
        (ir.Grid(1, 256), 1, 1, 1),
    ],
)
def test_what_no_scale_can_do(grid, m, b, s):
    assert scale_of(op_of(grid, m, b, s, 0, 1), 0, m, b, s) is None


def test_ties_that_no_scale_can_break():
    """Of 5 / 2 more must be made, and of -5 / 2 less: not both."""
    op = op_of(ir.Grid(-128, 127), 1, 1, 1, -5, 5)
    assert scale_of(op, 0, 1, 1, 1) is None


def test_zeros():
    assert zero_of(BYTES, 1 << 6, 7) == 0
    assert zero_of(BYTES, (1 << 6) + (255 << 7), 7) == 255
    assert zero_of(ir.Grid(-128, 127), 1 << 6, 7) == 128
    assert zero_of(BYTES, 0, 0) == 0


def test_floats_near():
    first, up, down, *others = floats_near(1.0)
    assert [first, up, down] == [1, 1 + 2**-23, 1 - 2**-24]
    assert len(set(others)) == len(others) == 14


def test_scales_are_those_of_channels():
    op = op_of(BYTES, 3, 1, 1, 0, 1, 2, 100)
    pixels = ir.Image('p', ('image',), 1, ir.Grid(0, 255), (0,))
    few = requantize('x', 'p', 1, ir.Grid(0, 3), 1, 0, 0)
    ops = (pixels, few, op.lookup, op)
    program = ir.Program(ops, {}, (ir.Output(('z',), 1.0),), 1)
    (node,) = (
        each
        for each in network(program)[0].nodes
        if each.kind == 'QuantizeLinear'
    )
    assert node.attributes == {'axis': 1}


def test_codes_beyond_what_floats_hold():
    """5 / 2 is 3, and would be 2 by the nearest scale."""
    grid = ir.Grid(2**24 + 3, 2**24 + 258)
    b = 2 * grid.lo + 1
    scale = scale_of(op_of(grid, 1, b, 1, 5), 0, 1, b, 1)
    assert scale == np.nextafter(np.float32(2), np.float32(0))
