"""Single operators: oracle, reference, executor and engine are equal."""

from dataclasses import replace
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.compiler.executor import Executor
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from tests import oracle
from tests.operators import engine_op

SOURCE = ir.Grid(-1024, 1024)
sides = st.integers(1, 7)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def integers(data, shape: tuple[int, ...], lo: int, hi: int, dtype: Any):
    """Draw an array in which extremes are as frequent as other values."""
    values = st.sampled_from([lo, hi]) | st.integers(lo, hi)
    count = int(np.prod(shape))
    drawn = data.draw(st.lists(values, min_size=count, max_size=count))
    return np.array(drawn, dtype).reshape(shape)


def check(op: ir.Op, inputs: list[np.ndarray], weights: dict) -> None:
    """Run one operator in all of them."""
    program = ir.Program((op,), weights, (), 1)
    found = reference.run_op(op, inputs, program)
    executor = Executor(_with_sources(op, inputs, weights))
    faster = executor_op(executor, op, inputs)
    for n in range(len(inputs[0])):
        expected = oracle.execute(op, [x[n].tolist() for x in inputs], program)
        assert found[n].tolist() == expected
        assert faster[n].tolist() == expected
    if not isinstance(op, ir.Image):
        assert np.array_equal(engine_op(op, inputs, weights), found)


def _with_sources(op: ir.Op, inputs, weights) -> ir.Program:
    sources = tuple(
        ir.Image(name, ('image',), x.shape[1], SOURCE, (0,))
        for name, x in zip(op.inputs, inputs, strict=True)
    )
    return ir.Program((*sources, op), weights, (), 1)


def executor_op(executor: Executor, op: ir.Op, inputs) -> torch.Tensor:
    return executor.run_op(op, [torch.from_numpy(x) for x in inputs]).long()


@given(data=st.data(), kernel=pairs, stride=pairs, padding=pairs)
@settings(max_examples=60)
def test_convolution(data, kernel, stride, padding):
    groups, dilation = data.draw(st.sampled_from([1, 2])), (1, data.draw(
        st.integers(1, 2)
    ))  # fmt: skip
    height, width = kernel[0] + data.draw(sides), 2 * kernel[1] + 1
    x = integers(data, (2, 2 * groups, height, width), -1024, 1024, np.int16)
    codes = integers(data, (2 * groups, 2, *kernel), -127, 127, np.int8)
    zero = data.draw(
        st.sampled_from([(0,), (-1000,), (5, 0, -7, 1024)[: 2 * groups]])
    )
    op = ir.Convolution(
        'y', ('x',), 2 * groups, ir.INT32, kernel, stride, padding, dilation,
        'w', groups, zero,
    )  # fmt: skip
    check(op, [x], {'w': ir.Weights.of(codes, 8)})


@given(
    data=st.data(),
    kernel=pairs,
    padding=pairs,
    channels=st.integers(1, 40),
    dtype=st.sampled_from([np.uint8, np.int8, np.int16]),
)
@settings(max_examples=40)
def test_channels_alone_with_zero_points(
    data, kernel, padding, channels, dtype
):
    info = np.iinfo(dtype)
    low, high = max(info.min, -1024), min(info.max, 1024)
    x = integers(data, (1, channels, kernel[0], 5), low, high, dtype)
    codes = integers(data, (channels, 1, *kernel), -127, 127, np.int8)
    count = data.draw(st.sampled_from([1, channels]))
    zero = integers(data, (count,), low, high, int)
    op = ir.Convolution(
        'y', ('x',), channels, ir.INT32, kernel, (1, 1), padding, (1, 1), 'w',
        channels, tuple(zero.tolist()),
    )  # fmt: skip
    check(op, [x], {'w': ir.Weights.of(codes, 8)})


def test_convolution_of_sums_that_float32_cannot_hold():
    # Sums that are odd, one below 2^24 and one above.
    x = np.full((1, 80, 1, 1), 1024, np.int16)
    x[0, 0] = 1
    codes = np.full((1, 80, 1, 1), 127, np.int16)
    codes[0, 0] = 1
    op = ir.Convolution(
        'y', ('x',), 1, ir.INT32, (1, 1), (1, 1), (0, 0), (1, 1), 'w', 1
    )
    assert 79 * 1024 * 127 + 1 < 2**24 < 2 * 79 * 1024 * 127
    check(op, [x], {'w': ir.Weights.of(codes, 8)})
    wide = np.repeat(x, 2, 1)
    wide[0, 0] = 0
    check(op, [wide], {'w': ir.Weights.of(np.repeat(codes, 2, 1), 8)})


@given(data=st.data(), per_tensor=st.booleans())
def test_requantize(data, per_tensor):
    channels = 3
    limit = 2**31 - 1
    x = integers(data, (1, channels, 2, 2), -limit, limit, np.int32)
    count = 1 if per_tensor else channels
    table = Multipliers(
        integers(data, (count,), -(2**24), 2**24, np.int32),
        integers(data, (count,), -(2**61), 2**61, np.int64),
        integers(data, (count,), 0, 47, np.uint8),
    )
    lo, hi = data.draw(
        st.sampled_from([(0, 3), (-127, 127), (0, 255), (-1024, 1024)])
    )
    check(
        ir.Requantize('y', ('x',), channels, ir.Grid(lo, hi), table), [x], {}
    )


@given(data=st.data(), kernel=pairs, stride=pairs)
def test_max_pool(data, kernel, stride):
    padding = (kernel[0] // 2, kernel[1] // 2)
    x = integers(data, (2, 2, 5, 4), -128, 127, np.int8)
    op = ir.MaxPool(
        'y', ('x',), 2, ir.Grid(-128, 127), kernel, stride, padding, (1, 1)
    )
    check(op, [x], {})


def test_max_pool_of_windows_outside_of_the_map():
    # The upper and the lower tap of a window reach over a map of one row.
    x = np.array([[[[5, -7, 3]]]], np.int8)
    op = ir.MaxPool('y', ('x',), 1, ir.INT32, (2, 1), (1, 1), (2, 0), (4, 1))
    check(op, [x], {})


@pytest.mark.parametrize('grid', [ir.Grid(-1024, 1024), ir.INT32])
def test_max_pool_of_a_wider_grid(grid):
    x = np.array([[[[-128, 127], [3, -128]]]], np.int8)
    op = ir.MaxPool('y', ('x',), 1, grid, (3, 3), (1, 1), (1, 1), (1, 1))
    check(op, [x], {})


def test_max_pool_of_codes_that_float32_cannot_hold():
    x = np.array([[[[2**24 + 1, 2**24], [-(2**31) + 1, 2**31 - 1]]]], np.int32)
    op = ir.MaxPool('y', ('x',), 1, ir.INT32, (1, 1), (1, 1), (0, 0), (1, 1))
    check(op, [x], {})


@given(data=st.data())
def test_add(data):
    x, y = (
        integers(data, (1, 2, 3, 2), -1024, 1024, np.int16) for _ in range(2)
    )
    check(ir.Add('z', ('x', 'y'), 2, ir.Grid(0, 255)), [x, y], {})


@given(data=st.data(), whole=st.booleans())
def test_multiply(data, whole):
    x = integers(data, (1, 2, 3, 2), -128, 127, np.int8)
    y = integers(
        data, (1, 2, *((1, 1) if whole else (3, 2))), 0, 255, np.uint8
    )
    grid = ir.Grid(-128 * 255, 127 * 255)
    check(ir.Multiply('z', ('x', 'y'), 2, grid), [x, y], {})


@given(data=st.data(), sides=st.tuples(sides, sides))
def test_mean(data, sides):
    x = integers(data, (1, 2, *sides), -128, 255, np.int16)
    grid = ir.Grid(-128 << 8, 255 << 8)
    check(ir.Mean('y', ('x',), 2, grid), [x], {})


def test_means_round_ties_upwards():
    # 1/512 of a step is half a unit.
    x = np.zeros((1, 2, 16, 32), np.int16)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = 1, -1
    op = ir.Mean('y', ('x',), 2, ir.Grid(-256, 256))
    found = reference.run_op(op, [x], ir.Program((op,), {}, (), 1))
    assert found.reshape(-1).tolist() == [1, 0]
    check(op, [x], {})


norms = st.sampled_from([(0, 255), (-127, 127), (-(2**15), 2**15 - 1)])


@given(
    data=st.data(),
    sides=st.tuples(sides, sides),
    grid=norms,
    epsilon=st.sampled_from([1, 655, 2**16, 2**48]),
)
def test_group_norm(data, sides, grid, epsilon):
    x = integers(data, (2, 4, *sides), *grid, np.int32)
    dtype = ir.Grid(*grid).dtype
    op = ir.GroupNorm('y', ('x',), 4, ir.Grid(-32767, 32767), 2, epsilon)
    check(op, [x.astype(dtype)], {})
    program = ir.Program((op,), {}, (), 1)
    found = reference.run_op(op, [x.astype(dtype)], program)
    for codes, values in zip(
        x.reshape(4, -1).tolist(), found.reshape(4, -1).tolist(), strict=True
    ):
        near(codes, values, epsilon)


def near(codes: list[int], found: list[int], epsilon: int) -> None:
    """Compare a group with real numbers; the contract's bound, section 10."""
    n = len(codes)
    mean = Fraction(sum(codes), n)
    v = 2**16 * sum((q - mean) ** 2 for q in codes) / n + epsilon
    deviation = sqrt(v) / 2**8
    # The integer variance is up to 1 lower, but not below epsilon.
    least = max(v - 1, epsilon)
    for q, value in zip(codes, found, strict=True):
        z = float(q - mean) / deviation
        limit = 32767 / 2**12
        bound = abs(z) * (3 / least + 2**-28) + 2**-8 / sqrt(least) + 2**-13
        limited = min(max(z, -limit), limit)
        assert abs(value / 2**12 - limited) <= bound * (1 + 1e-9)


def test_group_norm_by_hand():
    """Codes 0 and 2 with a variance of 1, and a group without any.

    epsilon is 3: v = 2^16 + 3 and e = 22, isqrt(v * 4^22) = 1073766399,
    r = 2^60 // 1073766399 = 1073717249 and k = 34. For the code 2 it is
    (2^16 * 1073717249 + 2^33) >> 34 = 4096.
    """
    x = np.array([0, 2, 0, 2, 7, 7, 7, 7], np.uint8).reshape(1, 4, 1, 2)
    op = ir.GroupNorm('y', ('x',), 4, ir.Grid(-32767, 32767), 2, 3)
    found = reference.run_op(op, [x], ir.Program((op,), {}, (), 1))
    assert found.reshape(-1).tolist() == [-4096, 4096] * 2 + [0] * 4
    check(op, [x], {})


def test_group_norm_of_extremes():
    """The largest deviations and the shortest shift, and saturation."""
    low, high = -(2**15), 2**15 - 1
    x = np.full((1, 2, 16, 16), low, np.int16)
    x[0, 0, 0, 0], x[0, 1] = high, high
    op = ir.GroupNorm('y', ('x',), 2, ir.Grid(-32767, 32767), 2, 1)
    found = reference.run_op(op, [x], ir.Program((op,), {}, (), 1))
    # sqrt(255) deviations are 16, of which 8 have a code.
    assert found[0, 0, 0, 0] == 32767
    assert not found[0, 1].any()
    check(op, [x], {})
    check(replace(op, groups=1), [x], {})


def test_groups_that_are_too_large_are_refused():
    op = ir.GroupNorm('y', ('x',), 2, ir.Grid(-32767, 32767), 1, 1)
    assert op.size({'x': (2**16, 2**15)}) == (2**16, 2**15)
    with pytest.raises(UserError, match='y: expected at most 4294967296'):
        op.size({'x': (2**16, 2**15 + 1)})


@given(data=st.data())
def test_lookup(data):
    x = integers(data, (1, 2, 3, 2), -7, 7, np.int8)
    table = integers(data, (15,), 0, 255, np.int32)
    check(ir.Lookup('y', ('x',), 2, ir.Grid(0, 255), table, -7), [x], {})


@given(data=st.data())
def test_lookup_by_rows(data):
    x = integers(data, (2, 3, 3, 2), -7, 7, np.int8)
    table = integers(data, (2 * 15,), -(2**15), 2**15 - 1, np.int32)
    rows = data.draw(st.sampled_from([(1,), (0, 1, 0), (1, 1, 0)]))
    grid = ir.Grid(-(2**15), 2**15 - 1)
    check(ir.Lookup('y', ('x',), 3, grid, table, -7, rows), [x], {})


@given(
    data=st.data(), small=st.tuples(sides, sides), like=st.tuples(sides, sides)
)
def test_upsample(data, small, like):
    x = integers(data, (1, 2, *small), 0, 255, np.uint8)
    target = np.zeros((1, 1, *like), np.uint8)
    check(ir.Upsample('z', ('x', 'y'), 2, ir.Grid(0, 255)), [x, target], {})


@given(data=st.data())
def test_concatenate(data):
    x = integers(data, (1, 2, 3, 2), 0, 255, np.uint8)
    y = integers(data, (1, 1, 3, 2), 0, 3, np.uint8)
    check(ir.Concatenate('z', ('x', 'y'), 3, ir.Grid(0, 255)), [x, y], {})


@given(data=st.data(), offset=st.tuples(*[st.integers(0, 1)] * 2))
def test_slice(data, offset):
    x = integers(data, (1, 4, 5, 4), 0, 255, np.uint8)
    op = ir.Slice('y', ('x',), 2, ir.Grid(0, 255), 1, offset, (2, 2))
    check(op, [x], {})


@given(data=st.data())
def test_image(data):
    x = integers(data, (2, 3, 2, 2), 0, 255, np.uint8)
    op = ir.Image('p', ('x',), 3, ir.Grid(-255, 255), (124, 0, 255))
    check(op, [x], {})
