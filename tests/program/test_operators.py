"""Oracle, reference, executor and engine, equal in every integer."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.compiler.executor import Executor
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    CompiledDetector,
    Curve,
    Regions,
    RegionStage,
)
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.engine import Engine
from tests import kernels, oracle
from tests.program.test_file import detector

IDENTITY = Multipliers(
    np.ones(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.uint8)
)
GRIDS = [
    (0, 3),
    (-127, 127),
    (0, 255),
    (-1024, 1024),
    (-(2**31) + 1, 2**31 - 1),
]
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


def engine_op(
    op: ir.Op,
    inputs: list[np.ndarray],
    weights: dict,
):
    """Run one operator in the engine, on inputs of their own types."""
    program, given = program_of(op, inputs, weights)
    return run_program(program, given)[program.output_names()[0]]


def program_of(
    op: ir.Op,
    inputs: list[np.ndarray],
    weights: dict,
    behind: tuple[ir.Op, ...] = (),
    codes: ir.Grid | None = None,
) -> tuple[ir.Program, np.ndarray]:
    """A program of a second stage for one operator, and what it is given.

    Inputs are of their own types, or all of one grid of codes.
    """
    height, width = (max(x.shape[axis] for x in inputs) for axis in (2, 3))
    given = np.zeros(
        (len(inputs[0]), sum(x.shape[1] for x in inputs), height, width),
        np.int32,
    )
    ops: list[ir.Op] = [
        ir.Region('given', ('image',), given.shape[1], ir.INT32)
    ]
    first = 0
    for name, x in zip(op.inputs, inputs, strict=True):
        channels, rows, columns = x.shape[1:]
        # In the corner, where a slice's offset leaves it alone.
        offset = (height - rows, width - columns)
        given[:, first : first + channels, offset[0] :, offset[1] :] = x
        info = np.iinfo(x.dtype)
        grid = codes or ir.Grid(max(info.min, ir.INT32.lo), info.max)
        if isinstance(op, ir.Lookup):
            grid = ir.Grid(op.first, op.first + len(op.table) - 1)
        ops += [
            ir.Slice(
                f'{name}.part', ('given',), channels, ir.INT32, first, offset,
                (1, 1),
            ),
            ir.Requantize(name, (f'{name}.part',), channels, grid, IDENTITY),
        ]  # fmt: skip
        first += channels
    # Whatever the inputs' types allow, so that the grid is none to refuse.
    loose = isinstance(op, (ir.MaxPool, ir.Upsample, ir.Slice, ir.Mean))
    made = replace(op, grid=ir.INT32) if loose else op
    name = (made, *behind)[-1].output
    outputs = (ir.Output((name,), 1.0),)
    return ir.Program((*ops, made, *behind), weights, outputs, 1), given


def run_program(program: ir.Program, values: np.ndarray):
    """Run a program of a second stage in the engine, by all its kernels."""
    whole = two_stage(program)
    content = file.to_bytes(whole)
    made = []
    for name in kernels.names():
        with kernels.chosen(name):
            made.append(Engine(whole, content, 2).run(program, values))
    for found in made[1:]:
        for name, values in found.items():
            assert np.array_equal(values, made[0][name])
    return made[0]


def two_stage(program: ir.Program) -> CompiledDetector:
    """A detector with a second stage of a program, for the engine alone."""
    stage = RegionStage(0, (8,), 56, 7, 0, program, IDENTITY, IDENTITY)
    curve = Curve(np.zeros(2, np.int32), 0, 1)
    regions = Regions((stage,), 1, curve, curve, 0, 0, 1)
    return replace(detector(), regions=regions)


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
    op = ir.Convolution(
        'y', ('x',), 2 * groups, ir.INT32, kernel, stride, padding, dilation,
        'w', groups,
    )  # fmt: skip
    check(op, [x], {'w': ir.Weights.of(codes, 8)})


@given(seed=st.integers(0, 9999))
@settings(max_examples=150, deadline=None)
def test_wide_convolutions_of_the_engine(seed):
    program, given = wide_convolution(seed)
    expected = reference.run(program, given)
    found = run_program(program, given)
    for name, values in expected.items():
        assert np.array_equal(found[name], values)


def wide_convolution(seed: int) -> tuple[ir.Program, np.ndarray]:
    """A convolution of codes of few bits, half of them requantised.

    A quarter have each channel by itself.

    Returns:
        A program of a second stage, and what it is given.
    """
    rng = np.random.default_rng(seed)
    dtype = rng.choice([np.uint8, np.int8, np.int16])
    bits, width = rng.choice([2, 3, 4, 8], 2).tolist()  # of weights, of codes
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if dtype != np.int16:
        low, high = low >> (8 - width), high >> (8 - width)
    grid = ir.Grid(low, high)
    ins, outs = int(rng.integers(1, 10)), int(rng.integers(1, 71))
    alone = rng.random() < 0.25
    if alone:
        ins = outs
    size = rng.integers(3, 6), rng.integers(3, 61)
    x = rng.integers(low, high + 1, (2, ins, *size), dtype)
    if rng.random() < 0.3:
        x = np.where(x < (low + high) // 2, x, high).astype(dtype)
    shape = (outs, 1 if alone else ins, 3, 2)
    dilation = int(rng.integers(1, 3))
    stride = tuple(rng.integers(1, 4, 2).tolist())
    rows, columns = rng.integers(0, 3, 2).tolist()
    padding = (rows + dilation - 1, columns)
    op = ir.Convolution(
        'y', ('x',), outs, ir.INT32, (3, 2), stride, padding,
        (dilation, dilation), 'w', outs if alone else 1,
    )  # fmt: skip
    levels = rng.integers(0, 2**bits, shape)
    if rng.random() < 0.3:
        levels = np.where(levels < 2**bits // 2, 0, 2**bits - 1)
    codes = np.maximum(levels - 128, -127) if bits == 8 else levels * 2 + 1
    if bits < 8:
        codes -= 2**bits
    weights = {'w': ir.Weights.of(codes.astype(np.int16), bits)}
    if rng.random() < 0.5:
        return program_of(op, [x], weights, codes=grid)
    count = rng.choice([1, outs])
    # Values that are limited in almost all places, or in few.
    shifts = (0, 47) if rng.random() < 0.5 else (36, 47)
    table = Multipliers(
        rng.integers(-(2**23), 2**23, count).astype(np.int32),
        rng.integers(-(2**40), 2**40, count),
        rng.integers(*shifts, count, endpoint=True).astype(np.uint8),
    )
    low, high = rng.choice(GRIDS)
    last = ir.Requantize(
        'z', ('y',), outs, ir.Grid(int(low), int(high)), table
    )
    return program_of(op, [x], weights, (last,), grid)


@given(seed=st.integers(0, 9999))
@settings(max_examples=80, deadline=None)
def test_few_bits_of_many_channels(seed):
    """What kernels may look up: many codes and weights, often extreme."""
    rng = np.random.default_rng(seed)
    bits, codes = rng.choice([2, 3], 2).tolist()
    ins, outs = rng.integers(1, 300), rng.integers(1, 40)
    kernel = tuple(rng.choice([1, 3], 2).tolist())
    size = rng.integers(3, 9), rng.integers(3, 150)
    x = rng.integers(0, 2**codes, (1, ins, *size), np.uint8)
    levels = rng.integers(0, 2**bits, (outs, ins, *kernel))
    if rng.random() < 0.5:
        x = np.where(x > 0, 2**codes - 1, 0).astype(np.uint8)
        levels = np.where(rng.random(levels.shape) < 0.9, levels, 0)
    if rng.random() < 0.5:
        levels[rng.integers(outs)] = 2**bits - 1
        levels[rng.integers(outs)] = 0
    stride, dilation, padding = (
        tuple(rng.integers(low, high, 2).tolist())
        for low, high in ((1, 3), (1, 3), (0, 3))
    )
    op = ir.Convolution(
        'y', ('x',), int(outs), ir.INT32, kernel, stride, padding, dilation,
        'w', 1,
    )  # fmt: skip
    if min(op.size({'x': size})) < 1:
        return
    weights = {'w': ir.Weights.of(levels * 2 + 1 - 2**bits, bits)}
    program, given = program_of(
        op, [x], weights, codes=ir.Grid(0, 2**codes - 1)
    )
    expected = reference.run(program, given)
    found = run_program(program, given)
    assert np.array_equal(found['y'], expected['y'])


@given(seed=st.integers(0, 9999))
@settings(max_examples=100, deadline=None)
def test_windows_of_nine_codes(seed):
    """What kernels may make of fewer products: extremes, edges of tiles."""
    rng = np.random.default_rng(seed)
    bits, codes = rng.choice([2, 3, 4, 8], 2).tolist()
    low = rng.choice([0, -(2 ** (codes - 1))])
    high = low + 2**codes - 1
    ins, outs = rng.integers(1, 150), rng.integers(1, 100)
    size = rng.integers(3, 20), rng.integers(3, 70)
    x = rng.integers(low, high + 1, (1, ins, *size), np.int16)
    levels = rng.integers(0, 2**bits, (outs, ins, 3, 3))
    if rng.random() < 0.5:
        x = np.where(x > (low + high) // 2, high, low)
        x[..., rng.integers(size[0]), :] = low
        x[..., rng.integers(size[1])] = high
    if rng.random() < 0.5:
        levels = np.where(levels < 2**bits // 2, 0, 2**bits - 1)
        levels[rng.integers(outs)] = 2**bits - 1
        levels[rng.integers(outs)] = 0
    weights = levels * 2 + 1 - 2**bits
    if bits == 8:
        weights = np.maximum(levels - 128, -127)
    op = ir.Convolution(
        'y', ('x',), int(outs), ir.INT32, (3, 3), (1, 1),
        tuple(rng.integers(0, 3, 2).tolist()), (1, 1), 'w', 1,
    )  # fmt: skip
    program, given = program_of(
        op,
        [x.astype(np.int8 if low else np.uint8)],
        {'w': ir.Weights.of(weights, bits)},
        codes=ir.Grid(int(low), int(high)),
    )
    expected = reference.run(program, given)
    found = run_program(program, given)
    assert np.array_equal(found['y'], expected['y'])


def test_sums_that_dividing_them_by_64_leaves_whole():
    # Sums below 2^25 and, of one channel more, above.
    for channels, sign in ((115, 1), (116, 1), (115, -1), (116, -1)):
        x = np.full((1, channels, 6, 6), 255, np.uint8)
        weights = np.full((1, channels, 3, 3), 127 * sign)
        op = ir.Convolution(
            'y', ('x',), 1, ir.INT32, (3, 3), (1, 1), (0, 0), (1, 1), 'w', 1
        )
        program, given = program_of(op, [x], {'w': ir.Weights.of(weights, 8)})
        found = run_program(program, given)['y']
        assert (np.abs(found) == 255 * 127 * 9 * channels).all()
    assert 255 * 127 * 9 * 115 < 2**25 < 255 * 127 * 9 * 116


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


@given(data=st.data())
def test_lookup(data):
    x = integers(data, (1, 2, 3, 2), -7, 7, np.int8)
    table = integers(data, (15,), 0, 255, np.int32)
    check(ir.Lookup('y', ('x',), 2, ir.Grid(0, 255), table, -7), [x], {})


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
