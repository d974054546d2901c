"""The engine's kernels: convolutions of all widths, and their edges."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.benchmark.machine import describe
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from tests import kernels
from tests.operators import (
    profile_program,
    program_of,
    run_program,
    square_windows,
    wide_convolution,
)


@given(seed=st.integers(0, 9999))
@settings(max_examples=150, deadline=None)
def test_wide_convolutions_of_the_engine(seed):
    program, region = wide_convolution(seed)
    expected = reference.run(program, region)
    found = run_program(program, region)
    for name, values in expected.items():
        assert np.array_equal(found[name], values)


@pytest.mark.parametrize('outs', [*range(8, 160, 8), 100, 300])
def test_output_channels_of_any_number_of_vectors(outs):
    """Rows of the output that are longer than the pixels of a microkernel."""
    rng = np.random.default_rng(outs)
    x = rng.integers(0, 256, (1, 5, 2, 43), np.uint8)
    codes = rng.integers(-127, 128, (outs, 5, 1, 2)).astype(np.int8)
    op = ir.Convolution(
        'y', ('x',), outs, ir.INT32, (1, 2), (1, 1), (0, 0), (1, 1), 'w', 1
    )
    program, region = program_of(op, [x], {'w': ir.Weights.of(codes, 8)})
    expected = reference.run(program, region)
    assert np.array_equal(run_program(program, region)['y'], expected['y'])


@given(seed=st.integers(0, 9999))
@settings(max_examples=150, deadline=None)
def test_each_channel_by_itself(seed):
    """Windows in all phases of their groups of columns, and padding."""
    rng = np.random.default_rng(seed)
    dtype = rng.choice([np.uint8, np.int8, np.int16])
    bits, width = rng.choice([2, 3, 4, 8], 2).tolist()  # of weights, of codes
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if dtype != np.int16:
        low, high = low >> (8 - width), high >> (8 - width)
    channels = int(rng.integers(1, 71))
    common = rng.random() < 0.5
    kernel = (
        2 * [int(rng.choice([3, 5]))] if common else rng.integers(1, 10, 2)
    )
    stride = 2 * [int(rng.integers(1, 3))] if common else rng.integers(1, 6, 2)
    dilation = (1, 1) if rng.random() < 0.7 else rng.integers(1, 4, 2)
    padding = rng.integers(0, 6, 2)
    size = rng.integers(1, 12), rng.integers(1, 70)
    zero = rng.integers(low, high + 1, rng.choice([1, channels]))
    op = ir.Convolution(
        'y', ('x',), channels, ir.INT32,
        *(
            tuple(map(int, pair))
            for pair in (kernel, stride, padding, dilation)
        ),
        'w', channels, tuple(zero.tolist()),
    )  # fmt: skip
    if min(op.size({'x': size})) < 1:
        return
    x = rng.integers(low, high + 1, (1, channels, *size), dtype)
    levels = rng.integers(0, 2**bits, (channels, 1, *kernel))
    if rng.random() < 0.3:
        x = np.where(x < (low + high) // 2, low, high).astype(dtype)
        levels = np.where(levels < 2**bits // 2, 0, 2**bits - 1)
    weights = levels * 2 + 1 - 2**bits
    if bits == 8:
        weights = np.maximum(levels - 128, -127)
    program, region = program_of(
        op,
        [x],
        {'w': ir.Weights.of(weights, bits)},
        codes=ir.Grid(int(low), int(high)),
    )
    expected = reference.run(program, region)
    found = run_program(program, region)
    assert np.array_equal(found['y'], expected['y'])


@given(seed=st.integers(0, 9999))
@settings(max_examples=80, deadline=None)
def test_few_bits_of_many_channels(seed):
    """What kernels may look up: many codes and weights, often extreme."""
    rng = np.random.default_rng(seed)
    bits, codes = rng.choice([2, 3], 2).tolist()
    ins, outs = rng.integers(1, 300), rng.choice([1, 37, 64, 80, 99])
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
    zero = (0,)
    if rng.random() < 0.5:
        padding = (0, 0) if rng.random() < 0.7 else padding
        zero = tuple(rng.integers(0, 2**codes, rng.choice([1, ins])).tolist())
    op = ir.Convolution(
        'y', ('x',), int(outs), ir.INT32, kernel, stride, padding, dilation,
        'w', 1, zero,
    )  # fmt: skip
    if min(op.size({'x': size})) < 1:
        return
    weights = {'w': ir.Weights.of(levels * 2 + 1 - 2**bits, bits)}
    last: tuple[ir.Op, ...] = ()
    if rng.random() < 0.5:
        table = Multipliers(
            rng.integers(-(2**23), 2**23, outs).astype(np.int32),
            rng.integers(-(2**36), 2**36, outs),
            rng.integers(26, 36, outs).astype(np.uint8),
        )
        grid = ir.Grid(0, int(rng.choice([3, 255])))
        last = (ir.Requantize('z', ('y',), int(outs), grid, table),)
    program, region = program_of(
        op, [x], weights, last, codes=ir.Grid(0, 2**codes - 1)
    )
    expected = reference.run(program, region)
    found = run_program(program, region)
    for name, values in expected.items():
        assert np.array_equal(found[name], values)


@pytest.mark.parametrize(
    'channels, kernel, padding, zero, is_looked_up',
    [
        (192, 1, 0, 0, True),
        (191, 1, 0, 0, False),
        (64, 3, 1, 0, True),
        (192, 1, 0, 1, True),
        (64, 3, 1, 1, False),
        (64, 3, 0, 1, True),
    ],
)
def test_what_is_looked_up(channels, kernel, padding, zero, is_looked_up):
    """Few products are faster, and zero points in a border have no start."""
    rng = np.random.default_rng(channels)
    op = ir.Convolution(
        'y', ('x',), 64, ir.INT32, (kernel, kernel), (2, 2),
        (padding, padding), (1, 1), 'w', 1, (zero,),
    )  # fmt: skip
    x = rng.integers(0, 4, (1, channels, 9, 11), np.uint8)
    codes = rng.integers(0, 4, (64, channels, kernel, kernel)) * 2 - 3
    program, region = program_of(
        op, [x], {'w': ir.Weights.of(codes, 2)}, codes=ir.Grid(0, 3)
    )
    expected = reference.run(program, region)
    assert np.array_equal(run_program(program, region)['y'], expected['y'])
    if 'avx512vbmi' not in describe().flags:
        return
    with kernels.chosen('avx512'):
        (conv,) = [x for x in profile_program(program, region) if x.macs]
    assert (conv.kind == 'lut') == is_looked_up


@given(seed=st.integers(0, 9999))
@settings(max_examples=150, deadline=None)
def test_windows_of_nine_codes(seed):
    program, region = square_windows(seed)
    expected = reference.run(program, region)
    found = run_program(program, region)
    assert np.array_equal(found['y'], expected['y'])


@pytest.mark.parametrize('bits', [2, 8])
def test_zero_points_leave_windows_of_nine_codes_fast(bits):
    rng = np.random.default_rng(bits)
    zero = tuple(range(4)) * 16
    op = ir.Convolution(
        'y', ('x',), 32, ir.INT32, (3, 3), (1, 1), (1, 1), (1, 1), 'w', 1, zero
    )
    x = rng.integers(0, 2**bits, (1, 64, 12, 12), np.uint8)
    codes = rng.integers(0, 2, (32, 64, 3, 3)) * 2 - 1
    program, region = program_of(
        op,
        [x],
        {'w': ir.Weights.of(codes, bits)},
        codes=ir.Grid(0, 2**bits - 1),
    )
    for name in kernels.names():
        if name not in ('portable', 'amx'):
            with kernels.chosen(name):
                ops = profile_program(program, region)
            assert [x.kind for x in ops if x.macs] == ['winograd'], name


def test_sums_that_dividing_them_by_64_leaves_whole():
    # Sums below 2^25 and, of one channel more, above.
    for channels, sign in ((115, 1), (116, 1), (115, -1), (116, -1)):
        x = np.full((1, channels, 6, 6), 255, np.uint8)
        weights = np.full((1, channels, 3, 3), 127 * sign)
        op = ir.Convolution(
            'y', ('x',), 1, ir.INT32, (3, 3), (1, 1), (0, 0), (1, 1), 'w', 1
        )
        program, region = program_of(op, [x], {'w': ir.Weights.of(weights, 8)})
        found = run_program(program, region)['y']
        assert (np.abs(found) == 255 * 127 * 9 * channels).all()
    assert 255 * 127 * 9 * 115 < 2**25 < 255 * 127 * 9 * 116


@given(seed=st.integers(0, 9999))
@settings(max_examples=40, deadline=None)
def test_windows_of_nine_codes_of_two_bits(seed):
    """Channels that kernels may sum in several parts, the last one shorter."""
    rng = np.random.default_rng(seed)
    ins, outs = int(rng.integers(100, 400)), int(rng.integers(1, 40))
    size = rng.integers(3, 12), rng.integers(3, 30)
    x = rng.integers(0, 4, (1, ins, *size), np.uint8)
    levels = rng.integers(0, 4, (outs, ins, 3, 3))
    extreme = rng.choice(['none', 'codes', 'weights', 'all'])
    if extreme in ('codes', 'all'):
        x = np.where(rng.random(x.shape) < 0.95, 3, x).astype(np.uint8)
    if extreme in ('weights', 'all'):
        levels[:] = np.where(rng.random((outs, 1, 1, 1)) < 0.5, 0, 3)
        levels[0, : ins // 2], levels[0, ins // 2 :] = 0, 3
    zero = tuple(rng.integers(0, 4, rng.choice([1, ins])).tolist())
    op = ir.Convolution(
        'y', ('x',), outs, ir.INT32, (3, 3), (1, 1),
        tuple(rng.integers(0, 3, 2).tolist()), (1, 1), 'w', 1, zero,
    )  # fmt: skip
    weights = {'w': ir.Weights.of(levels * 2 - 3, 2)}
    program, region = program_of(op, [x], weights, codes=ir.Grid(0, 3))
    expected = reference.run(program, region)
    found = run_program(program, region)
    assert np.array_equal(found['y'], expected['y'])


@pytest.mark.parametrize('more, bits', [(15, 8), (16, 16)])
def test_outputs_that_fill_12_bits(more, bits):
    """AVX2 sums products in 16 bits, of which a division takes four.

    Weights 2v + 1 are multiplied as v. The least output of these is that of
    675 weights -2 and codes 3, the largest that of `more` weights 1: with 15
    of them, the range has 4096 outputs.
    """
    channels = 75
    assert 3 * (2 * 9 * channels + 15) == 4095
    codes = np.full((2, channels, 3, 3), -3)
    codes[1] = 1
    codes[1, :more, 1, 1] = 3
    x = np.full((1, channels, 8, 9), 3, np.uint8)
    x[..., 1:3] = 0
    op = ir.Convolution(
        'y', ('x',), 2, ir.INT32, (3, 3), (1, 1), (0, 0), (1, 1), 'w', 1
    )
    program, region = program_of(
        op, [x], {'w': ir.Weights.of(codes, 2)}, codes=ir.Grid(0, 3)
    )
    found = run_program(program, region)['y']
    expected = reference.run(program, region)['y']
    assert np.array_equal(found, expected)
    assert found.min() == -3 * 3 * 9 * channels
    if 'avx2' in kernels.names():
        with kernels.chosen('avx2'):
            ops = profile_program(program, region)
        assert [op.operand_bits for op in ops if op.macs] == [bits]


@pytest.mark.parametrize('grid', [(0, 255), (-127, 127), (-1, 2), None])
@pytest.mark.parametrize('shift', [0, 1, 9, 31])
@pytest.mark.parametrize('beyond', [0, 1])
def test_shifted_numbers_at_the_edge_of_32_bits(beyond, shift, grid):
    """Vectors clamp the lower halves of numbers that are proven to fit."""
    most = 2 ** (31 + shift) - 1 + beyond
    channels = 20
    # Of both signs; sums are those of one weight.
    for factor, sign, weight in product((1, -1), (1, -1), (0, 127, -127)):
        largest = 127 * (abs(weight) or 1)
        m = 2**16 + 1
        b = most - largest * m
        rounding = Multipliers(
            np.array([factor * m], np.int32),
            np.array([sign * b], np.int64),
            np.array([shift], np.uint8),
        )
        x = np.resize(np.arange(-127, 128), (1, channels, 3, 37))
        x[..., ::5], x[..., 1::5] = 127, -127
        assert (abs(x * (weight or 1) * factor * m + sign * b)).max() == most
        last = ir.Requantize(
            'z', ('x',), channels, ir.Grid(*grid) if grid else ir.INT32,
            rounding,
        )  # fmt: skip
        ops: list[ir.Op] = [last]
        weights = {}
        if weight:
            one = (1, 1)
            codes = weight * np.eye(channels, dtype=np.int16)
            weights['w'] = ir.Weights.of(codes[..., None, None], 8)
            sums = ir.Convolution(
                'y', ('x',), channels, ir.INT32, one, one, (0, 0), one, 'w', 1
            )
            ops = [sums, replace(last, inputs=('y',))]
        program, region = program_of(
            ops[0], [x.astype(np.int8)], weights, tuple(ops[1:]),
            ir.Grid(-127, 127),
        )  # fmt: skip
        found = run_program(program, region)
        expected = reference.run(program, region)
        assert np.array_equal(found['z'], expected['z'])


@given(seed=st.integers(0, 9999))
@settings(max_examples=80, deadline=None)
def test_tables_of_lines(seed):
    """Tables that registers may hold as lines, and such as are nearly so."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 70))
    codes = int(rng.integers(1, 1500))
    low = -int(rng.integers(0, codes))
    rows = int(rng.integers(1, 8))
    shift = max(0, int(np.ceil(np.log2(codes / 64))))
    length = 2**shift
    table = []
    for _ in range(rows):
        count = -(-codes // length)
        edge = rng.choice([10, 2**15])
        first = rng.integers(-edge, edge, (count, 1))
        slope = rng.integers(-edge, edge, (count, 1))
        line = first + ((slope * np.arange(length) + length // 2) >> shift)
        table.append(line.ravel()[:codes])
    table = np.array(table, np.int32)
    if rng.random() < 0.5:
        table[rng.integers(rows), rng.integers(codes)] += 1
    op = ir.Lookup(
        'y', ('x',), channels, ir.INT32, table.ravel(), low,
        tuple(rng.permutation(np.arange(channels) % rows).tolist()),
    )  # fmt: skip
    if max(op.rows) < rows - 1:
        return
    size = rng.integers(1, 5), rng.integers(1, 40)
    x = rng.integers(low, low + codes, (1, channels, *size)).astype(np.int32)
    program, region = program_of(op, [x], {})
    expected = reference.run(program, region)
    found = run_program(program, region)
    assert np.array_equal(found['y'], expected['y'])
