"""Operators with floats: the reference's codes, or within a step of them.

Within a step are convolutions with QuantizeLinear, and group norms.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export import qdq_ops
from aqd_mmdet.export.onnx_graph import Graph, Tensor, integers
from aqd_mmdet.export.qdq_convolution import (
    MAX_PART,
    Int8Weights,
    fitted,
    int8_weights,
)
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint, real_multipliers
from aqd_mmdet.runtime import reference
from tests.export.models import (
    from_pixels,
    requantize,
    results,
    run_onnxruntime,
)
from tests.export.test_qdq_model import model
from tests.operators import program_of
from tests.specification.random_operators import random_operator

seeds = st.integers(0, 2**32 - 1)
EXACT = ['Add', 'Multiply', 'Mean', 'Lookup', 'MaxPool', 'Upsample',
         'Concatenate', 'Slice', 'Convolution']  # fmt: skip
GRIDS = [
    ir.Grid(0, 255), ir.Grid(-128, 127), ir.Grid(0, 3), ir.Grid(-7, 7),
    ir.Grid(5, 260), ir.Grid(-300, -45), ir.Grid(-1024, 1024), ir.INT32,
]  # fmt: skip


@pytest.mark.parametrize('kind', EXACT)
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_exact_operators(kind, seed):
    program, image = from_pixels(*random_operator(kind, seed))
    found = run_onnxruntime(model(program), image=image)
    for name, codes in reference.run(program, image).items():
        assert np.array_equal(found[name], codes.astype(np.float32))


def requantized(
    program: ir.Program, bound: float, rng: np.random.Generator
) -> ir.Program:
    """A program with a Requantize behind it that fills a grid.

    Args:
        program: Of an operator.
        bound: Largest magnitude of what it makes.
        rng: What is random.
    """
    (*_, op) = program.ops
    grid = GRIDS[rng.integers(len(GRIDS))]
    count = int(rng.choice([1, op.channels]))
    # Biases of the largest shift hold 15 bits more.
    lo, hi = (min(max(end, -(2**13)), 2**13) for end in grid.ends)
    ratio = rng.uniform(0.1, 2, count) * (hi - lo) / max(bound, 1)
    ratio *= rng.choice([1, 1, -1, 0], count)
    offset = rng.uniform(lo - 9, hi + 9, count)
    table = real_multipliers(ratio, offset, FixedPoint())
    last = ir.Requantize('last', (op.output,), op.channels, grid, table)
    outputs = (ir.Output(('last',), 1.0),)
    return replace(program, ops=(*program.ops, last), outputs=outputs)


def check_within_one(program: ir.Program, image: np.ndarray) -> None:
    """No code may be off by two, and all are whole."""
    found = run_onnxruntime(model(program), image=image)['last']
    codes = reference.run(program, image)['last']
    difference = np.abs(found - codes)
    assert difference.max() <= 1
    assert (found == np.rint(found)).all()


@given(seed=seeds)
@settings(max_examples=120, deadline=None)
def test_convolutions(seed):
    program, image = from_pixels(*random_operator('Convolution', seed))
    (conv,) = (op for op in program.ops if isinstance(op, ir.Convolution))
    codes = reference.run(program, image)[conv.output]
    program = requantized(
        program, float(np.abs(codes).max()), np.random.default_rng(seed)
    )
    check_within_one(program, image)


@pytest.mark.parametrize('kind', ['Lookup', 'MaxPool', 'Slice', 'Mean', 'Add'])
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_requantize(kind, seed):
    """Of bytes and int32: exact."""
    program, image = from_pixels(*random_operator(kind, seed))
    codes = reference.run(program, image)[program.ops[-1].output]
    rng = np.random.default_rng(seed)
    program = requantized(program, float(np.abs(codes).max()), rng)
    found = run_onnxruntime(model(program), image=image)['last']
    expected = reference.run(program, image)['last']
    assert np.array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize('beyond', [0, 1])
@pytest.mark.parametrize('sign', [1, -1])
def test_doubles_hold_53_bits(beyond, sign, monkeypatch):
    """One more number, and the integer format's nodes are there."""
    monkeypatch.setattr(qdq_ops, 'MOST_BORDERS', 0)
    m, shift, largest = 2**22 + 1, 43, 2**30
    # The lowest code, -1024, is taken off.
    b = sign * (2**53 - m * largest + beyond) - (1024 << shift)
    op = requantize('y', 'x', 1, ir.Grid(-1024, 1024), sign * m, b, shift)
    values = np.array([0, 1, largest - 1, largest], np.int32)
    ends = integers(0, 1), integers(largest, 1)
    graph = Graph({})
    y = qdq_ops.requantize(
        graph, op, [Tensor('x', 'int32', integers(0, 1), *ends)]
    )
    kinds = {node.kind for node in graph.nodes}
    assert ('BitShift' in kinds) == bool(beyond)
    wide = graph.codes(y)
    (found,), _ = results(
        graph, [graph.cast(wide.name, 'int64')], 4,
        x=values.reshape(1, 1, 2, 2),
    )  # fmt: skip
    expected = [
        min(max((int(x) * sign * m + b) >> shift, -1024), 1024) for x in values
    ]
    assert found.ravel().tolist() == expected


@pytest.mark.parametrize('groups', [1, 2])
def test_group_norm(groups):
    x = np.random.default_rng(0).normal(99, 500, (2, 4, 5, 6))
    op = ir.GroupNorm('last', ('x',), 4, ir.Grid(-8000, 8000), groups, 2**20)
    check_within_one(*from_pixels(*program_of(op, [x.astype(np.int16)], {})))


def weights_of(ratio: list[float], addend: list[float], *codes: int):
    shaped = np.array(codes, np.int8).reshape(len(ratio), -1, 1, 1)
    return int8_weights(shaped, np.array(ratio), np.array(addend))


def test_weights_have_the_ratios_as_scales():
    found = weights_of([0.25, -0.5], [3.0, 3.0], 127, 100, 127, -100)
    assert found.codes.ravel().tolist() == [127, 100, -127, 100]
    assert found.scale.tolist() == [0.25, 0.5]
    assert found.bias.tolist() == [12, 6]


def test_biases_of_narrow_weights_are_finer():
    found = weights_of([0.21], [0.1], 3, -1)
    assert found.codes.ravel().tolist() == [63, -21]
    assert found.scale == np.float32(0.21 / 21)
    assert found.bias.tolist() == [10]


def codes_of(parts: Int8Weights, sums: np.ndarray, grid: ir.Grid):
    """What QLinearConv makes of sums of the program, (O, N)."""
    held = sums * parts.factor[:, None] + parts.bias[:, None]
    real = held.astype(np.float32) * parts.scale[:, None]
    return np.clip(np.rint(real) + qdq_ops.origin(grid), *grid.ends)


def fit(ratio: float, offset: float, largest: int, grid: ir.Grid):
    """Weights of one channel, fitted, and how many codes they get wrong."""
    table = real_multipliers(ratio, offset, FixedPoint())
    m, b, s = qdq_ops.table_of(table, 1)
    step, bound = 2**s, np.array([largest * 255])
    parts = int8_weights(
        np.full((1, 1, 1, 1), largest, np.int8),
        (m / step).astype(float),
        ((b - step // 2) / step - qdq_ops.origin(grid)).astype(float),
    )
    found = fitted(parts, (m, b, step), grid, bound)
    # With a negative multiplier, the weights have another sign.
    sums = np.arange(-bound[0], bound[0] + 1)
    expected = np.clip(
        (sums.astype(object) * m[0] + b[0]) // step[0], *grid.ends
    )
    return found, (codes_of(found, sums[None], grid)[0] != expected).sum()


@given(
    ratio=st.floats(2**-9, 1).flatmap(lambda x: st.sampled_from([x, -x])),
    offset=st.floats(-1, 4),
    lowest=st.sampled_from([0, -2]),
    largest=st.sampled_from([1, 3]),
    bits=st.sampled_from([2, 3, 4]),
)
def test_few_codes_are_exact(ratio, offset, lowest, largest, bits):
    """Weights of 2 bits before 4 to 16 codes."""
    grid = ir.Grid(lowest, lowest + 2**bits - 1)
    parts, wrong = fit(ratio, offset + lowest, largest, grid)
    assert abs(parts.factor[0]) == 64 // largest
    assert wrong == 0


def test_a_scale_is_moved_where_no_bias_is_enough():
    """One that leaves no whole number between the borders of 16 codes."""
    ratio = 0.16202323952985914
    parts, wrong = fit(ratio, -0.7592673574620453, 3, ir.Grid(0, 15))
    assert wrong == 0
    assert parts.scale[0] == pytest.approx(ratio / 21, rel=0.01)
    assert parts.scale[0] != np.float32(ratio / 21)


def test_biases_of_many_codes_are_next_to_the_real_ones():
    parts, wrong = fit(0.61, 0.3, 127, ir.Grid(0, 255))
    assert parts.bias.tolist() == [0]
    assert 0 < wrong < 255


def test_channels_that_only_their_bias_fills():
    found = weights_of([0.0, 1e-12], [100.0, 100.0], 127, -127)
    assert not found.codes.any()
    assert (np.abs(found.bias) <= MAX_PART).all()
    values = found.bias * found.scale.astype(float)
    assert np.abs(values - 100).max() < 1e-3


def moved(m: int, b: int, shift: int, grid: ir.Grid, ends: tuple[int, int]):
    """What centring adds, of values between two ends."""
    values = sorted(m * end + b for end in ends)
    codes = (integers(value >> shift, 1) for value in values)
    (found,) = qdq_ops.centring(
        integers(m, 1), integers(b, 1), integers(2**shift, 1), (*codes,), grid
    )
    return found


@given(
    m=st.integers(-(2**12), 2**12),
    b=st.integers(-(2**20), 2**20),
    shift=st.integers(0, 14),
    lo=st.integers(-20, 20),
    count=st.integers(0, 300),
    ends=st.tuples(st.integers(-200, 0), st.integers(0, 200)),
)
def test_centring_changes_no_code(m, b, shift, lo, count, ends):
    grid = ir.Grid(lo, lo + count)
    a = np.arange(ends[0], ends[1] + 1)
    codes = ((a * m + b) >> shift).clip(*grid.ends)
    change = moved(m, b, shift, grid, ends)
    found = ((a * m + b + change) >> shift).clip(*grid.ends)
    assert np.array_equal(found, codes)


@pytest.mark.parametrize('sign', [1, -1])
def test_centring_of_ties(sign):
    """Sums of 10 a + 16 are 4, 2 and 0 above the borders 32, 64 and 96."""
    ends = (0, 9 * sign)
    assert moved(10 * sign, 16, 5, ir.Grid(0, 3), ends) == 3
    # Of the first border alone: 5 are halfway, and 4 were above.
    assert moved(10 * sign, 16, 5, ir.Grid(0, 1), ends) == 1


def test_centring_of_one_number():
    """7 of 16 is the code 0 in any case, and 8 are halfway."""
    assert moved(0, 7, 4, ir.Grid(0, 255), (0, 9)) == 1
    assert moved(0, -15, 4, ir.Grid(-255, 255), (0, 9)) == 7


def test_centring_has_no_place_for_many_codes():
    assert moved(1, 8, 4, ir.Grid(0, 255), (0, 4080)) == 0
    assert moved(2**16 + 1, 0, 16, ir.INT32, (0, 2**12)) == 0
