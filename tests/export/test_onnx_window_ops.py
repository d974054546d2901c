"""Operators that read windows: ONNX computes what the reference does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.program import ops as ir
from tests.export.models import PIXELS, check, from_pixels, model
from tests.operators import program_of, wide_convolution
from tests.specification.random_operators import random_operator

ONE = (1, 1)


@pytest.mark.parametrize('kind', ['Convolution', 'MaxPool'])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_operators(kind, seed):
    check(*from_pixels(*random_operator(kind, seed)))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_wide_convolutions(seed):
    program, values = wide_convolution(seed)
    program, image = from_pixels(program, values[:, :, :, :25])
    check(program, image)


def of_pixels(
    channels: int, means: tuple[int, ...], zero: tuple[int, ...], seed: int
) -> ir.Program:
    """A convolution that reads the image."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (4, channels, 3, 3))
    ops = (
        ir.Image('p', ('image',), channels, PIXELS, means),
        ir.Convolution(
            'y', ('p',), 4, ir.INT32, (3, 3), ONE, ONE, ONE, 'w', 1, zero
        ),
    )
    outputs = (ir.Output(('y',), 1.0),)
    return ir.Program(ops, {'w': ir.Weights.of(codes, 8)}, outputs, 1)


@pytest.mark.parametrize(
    'means, zero, kinds',
    [
        ((7, 7, 7), (0,), ['ConvInteger']),
        # The border has values of each channel.
        ((124, 0, 255), (0,), ['Where', 'ConvInteger']),
        ((124, 0, 255), (-124, 0, -255), ['ConvInteger']),
        # No pixel is the zero point: differences have two digits.
        ((0, 1, 2), (-9,), ['ConvInteger', 'ConvInteger']),
        ((0, 1, 2), (255,), ['ConvInteger', 'ConvInteger']),
    ],
)
def test_convolutions_of_pixels(means, zero, kinds):
    program = of_pixels(3, means, zero, 0)
    rng = np.random.default_rng(1)
    for image in (
        rng.integers(0, 256, (2, 3, 5, 6)),
        np.zeros((1, 3, 3, 3)),
        np.full((1, 3, 1, 4), 255),
    ):
        check(program, image.astype(np.uint8))
    found = [
        node.op_type
        for node in model(program).graph.node
        if node.op_type in ('Where', 'ConvInteger')
    ]
    assert found == kinds


@pytest.mark.parametrize('low, high', [(-(2**15), 2**15), (0, 256), (-1, 255)])
def test_sums_close_to_32_bits(low, high):
    """Weights and codes of one sign, in an input of more than bytes."""
    grid = ir.Grid(low, high)
    count = (2**31 - 1) // (127 * grid.magnitude)
    assert (count + 1) * 127 * grid.magnitude > 2**31 - 1
    count = min(count, 600)
    x = np.full((1, count, 1, 2), high, np.int32)
    x[..., 1] = low
    codes = np.full((1, count, 1, 1), 127)
    op = ir.Convolution(
        'y', ('x',), 1, ir.INT32, ONE, ONE, (0, 0), ONE, 'w', 1
    )
    program, values = program_of(
        op, [x], {'w': ir.Weights.of(codes, 8)}, codes=grid
    )
    found = check(*from_pixels(program, values))['y']
    assert found.ravel().tolist() == [
        count * 127 * high, count * 127 * low
    ]  # fmt: skip


@pytest.mark.parametrize('low', [-128, 0])
@pytest.mark.parametrize('sign', [1, -1])
def test_products_that_saturate_in_16_bits(low, sign):
    """Sums of two products of bytes that are cut off by some instructions."""
    x = np.full((1, 64, 3, 3), low + 255, np.dtype('i1' if low else 'u1'))
    codes = np.full((8, 64, 3, 3), 127 * sign)
    op = ir.Convolution(
        'y', ('x',), 8, ir.INT32, (3, 3), ONE, ONE, ONE, 'w', 1, (low,)
    )
    weights = {'w': ir.Weights.of(codes, 8)}
    found = check(*from_pixels(*program_of(op, [x], weights)))['y']
    assert abs(found).max() == 255 * 127 * 64 * 9


def test_max_pool_of_windows_outside_of_the_map():
    x = np.array([[[[5, -7, 3]]]], np.int8)
    op = ir.MaxPool('y', ('x',), 1, ir.INT32, (2, 1), ONE, (2, 0), (4, 1))
    found = check(*from_pixels(*program_of(op, [x], {})))['y']
    assert (found == ir.INT32.lo).all()


@pytest.mark.parametrize('dtype', [np.uint8, np.int8, np.int16])
@pytest.mark.parametrize('dilation', [(1, 1), (2, 1)])
def test_max_pool_pads_with_less_than_all_codes(dtype, dilation):
    low = np.iinfo(dtype).min
    x = np.full((1, 2, 5, 4), low, dtype)
    x[0, 1] = low + 1
    op = ir.MaxPool('y', ('x',), 2, ir.INT32, (3, 3), (2, 2), ONE, dilation)
    found = check(*from_pixels(*program_of(op, [x], {})))['y']
    assert (found[0, 0] == low).all() and (found[0, 1] == low + 1).all()


def test_sums_of_bytes_that_are_larger_than_their_codes():
    """Codes from -128 are held as bytes, whose sums are beyond 32 bits."""
    kernel, low = (182, 183), ir.Grid(-128, 127)
    few, table = ir.Grid(0, 3), np.arange(-255, 256)
    ops = (
        ir.Image('p', ('image',), 1, PIXELS, (128,)),
        *(
            ir.Lookup(
                name, ('p',), 1, grid,
                table.clip(*grid.ends).astype(np.int32), -255,
            )
            for name, grid in (('x', low), ('y', few))
        ),
        ir.Concatenate('xy', ('x', 'y'), 2, low),
        ir.Convolution(
            'z', ('xy',), 1, ir.INT32, kernel, ONE, (0, 0), ONE, 'w', 1
        ),
    )  # fmt: skip
    weights = ir.Weights.of(np.full((1, 2, *kernel), 127), 8)
    assert weights.magnitudes[0] * 128 < 2**31 < weights.magnitudes[0] * 255
    outputs = (ir.Output(('z',), 1.0),)
    program = ir.Program(ops, {'w': weights}, outputs, 1)
    for value in (0, 255):
        image = np.full((1, 1, *kernel), value, np.uint8)
        check(program, image, False)
    # One ConvInteger of the codes, and nothing to take off.
    exported = model(program)
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds[kinds.index('Sub') + 1 :] == [
        'Add', 'Cast', 'ConvInteger', 'Cast', 'Cast', 'Identity'
    ]  # fmt: skip
