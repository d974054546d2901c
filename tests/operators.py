"""Programs of one operator, run by all kernels of the engine."""

from dataclasses import replace

import numpy as np

from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    CompiledDetector,
    Curve,
    Regions,
    RegionStage,
)
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime.engine import Engine, OpProfile
from tests import kernels
from tests.factories import detector

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
    region = np.zeros(
        (len(inputs[0]), sum(x.shape[1] for x in inputs), height, width),
        np.int32,
    )
    ops: list[ir.Op] = [
        ir.Region('region', ('image',), region.shape[1], ir.INT32)
    ]
    first = 0
    for name, x in zip(op.inputs, inputs, strict=True):
        channels, rows, columns = x.shape[1:]
        # In the corner, where a slice's offset leaves it alone.
        offset = (height - rows, width - columns)
        region[:, first : first + channels, offset[0] :, offset[1] :] = x
        info = np.iinfo(x.dtype)
        grid = codes or ir.Grid(max(info.min, ir.INT32.lo), info.max)
        if isinstance(op, ir.Lookup):
            count = len(op.table) // (max(op.rows) + 1)
            grid = ir.Grid(op.first, op.first + count - 1)
        ops += [
            ir.Slice(
                f'{name}.part', ('region',), channels, ir.INT32, first, offset,
                (1, 1),
            ),
            ir.Requantize(name, (f'{name}.part',), channels, grid, IDENTITY),
        ]  # fmt: skip
        first += channels
    # Whatever the inputs' types allow, so that the grid is none to refuse.
    loose = isinstance(op, (ir.MaxPool, ir.Upsample, ir.Slice, ir.Mean))
    subject = replace(op, grid=ir.INT32) if loose else op
    name = (subject, *behind)[-1].output
    outputs = (ir.Output((name,), 1.0),)
    return ir.Program((*ops, subject, *behind), weights, outputs, 1), region


def run_program(program: ir.Program, values: np.ndarray):
    """Run a program of a second stage in the engine, by all its kernels."""
    whole = two_stage(program)
    content = file.to_bytes(whole)
    outputs = []
    for name in kernels.names():
        with kernels.chosen(name):
            outputs.append(Engine(whole, content, 2).run(program, values))
    for found in outputs[1:]:
        for name, values in found.items():
            assert np.array_equal(values, outputs[0][name])
    return outputs[0]


def profile_program(
    program: ir.Program, values: np.ndarray
) -> list[OpProfile]:
    """Profile a program of a second stage, by the kernels that are chosen."""
    whole = two_stage(program)
    engine = Engine(whole, file.to_bytes(whole), 1)
    return engine.profile(program, values, engine.run(program, values))


def engine_op(
    op: ir.Op,
    inputs: list[np.ndarray],
    weights: dict,
):
    """Run one operator in the engine, on inputs of their own types."""
    program, region = program_of(op, inputs, weights)
    return run_program(program, region)[program.output_names()[0]]


def two_stage(program: ir.Program) -> CompiledDetector:
    """A detector with a second stage of a program, for the engine alone."""
    stage = RegionStage(0, (8,), 56, 7, 0, program, IDENTITY, IDENTITY)
    curve = Curve(np.zeros(2, np.int32), 0, 1)
    regions = Regions((stage,), 1, curve, curve, 0, 0, 1)
    return replace(detector(), regions=regions)


def square_windows(seed: int) -> tuple[ir.Program, np.ndarray]:
    """A convolution with windows of 3 x 3, which kernels may make of fewer
    products: extremes, edges of tiles, zero points.

    Returns:
        A program of a second stage, and what it is given.
    """
    rng = np.random.default_rng(seed)
    bits, width = rng.choice([2, 3, 4, 8], 2).tolist()  # of weights, of codes
    low = int(rng.choice([0, -(2 ** (width - 1))]))
    high = low + 2**width - 1
    ins, outs = int(rng.integers(1, 100)), int(rng.integers(1, 60))
    size = rng.integers(3, 14), rng.integers(3, 40)
    x = rng.integers(low, high + 1, (1, ins, *size))
    levels = rng.integers(0, 2**bits, (outs, ins, 3, 3))
    if rng.random() < 0.5:
        x = np.where(x > (low + high) // 2, high, low)
        x[..., rng.integers(size[0]), :] = low
        x[..., rng.integers(size[1])] = high
    if rng.random() < 0.5:
        levels = np.where(levels < 2**bits // 2, 0, 2**bits - 1)
        levels[rng.integers(outs)] = 2**bits - 1
        levels[rng.integers(outs)] = 0
    codes = np.maximum(levels - 128, -127) if bits == 8 else levels * 2 + 1
    if bits < 8:
        codes -= 2**bits
    zero = (0,)
    if rng.random() < 0.7:
        count = rng.choice([1, ins])
        zero = tuple(rng.integers(low, high + 1, count).tolist())
    op = ir.Convolution(
        'y', ('x',), outs, ir.INT32, (3, 3), (1, 1),
        tuple(rng.integers(0, 3, 2).tolist()), (1, 1), 'w', 1, zero,
    )  # fmt: skip
    return program_of(
        op,
        [x.astype(np.int8 if low else np.uint8)],
        {'w': ir.Weights.of(codes, bits)},
        codes=ir.Grid(low, high),
    )


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
    zero = (0,)
    if rng.random() < 0.5:
        count = rng.choice([1, ins])
        zero = tuple(rng.integers(low, high + 1, count).tolist())
    op = ir.Convolution(
        'y', ('x',), outs, ir.INT32, (3, 2), stride, padding,
        (dilation, dilation), 'w', outs if alone else 1, zero,
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
