"""Operators of arithmetic: ONNX computes what the reference does."""

from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.export.onnx_graph import Graph
from aqd_mmdet.export.onnx_ops import reciprocal_root
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.bounds import prove
from tests.export.models import (
    PIXELS,
    check,
    from_pixels,
    model,
    requantize,
    results,
    run_evaluator,
    run_onnxruntime,
)
from tests.operators import program_of
from tests.specification.random_operators import MAKERS, random_operator

KINDS = ['Requantize', 'Add', 'Multiply', 'Mean', 'GroupNorm', 'Lookup']
BYTES = ir.Grid(0, 255)
INT16 = ir.Grid(-(2**15), 2**15 - 1)


def test_every_kind_has_random_operators():
    assert MAKERS.keys() | {'Image'} == {
        kind.__name__ for kind in ir.OPERATORS
    }


@pytest.mark.parametrize('kind', KINDS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_random_operators(kind, seed):
    check(*from_pixels(*random_operator(kind, seed)))


def image_of(*values: int) -> np.ndarray:
    """One channel and row of pixels."""
    return np.array(values, np.uint8).reshape(1, 1, 1, -1)


def network(*ops: ir.Op) -> ir.Program:
    """A network of one channel of pixels."""
    first = ir.Image('pixels', ('image',), 1, PIXELS, (100,))
    return ir.Program(
        (first, *ops), {}, (ir.Output((ops[-1].output,), 1.0),), 1
    )


def test_image():
    program = ir.Program(
        (ir.Image('p', ('image',), 3, PIXELS, (124, 0, 255)),),
        {},
        (ir.Output(('p',), 1.0),),
        1,
    )
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    found = check(program, pixels.repeat(3, 1))['p']
    assert found.min((0, 2, 3)).tolist() == [-124, 0, -255]


@pytest.mark.parametrize('shift', [0, 1, 8, 46, 47])
@pytest.mark.parametrize('m', [1, -1, 2**31 - 1, -(2**31) + 1])
@pytest.mark.parametrize('bias', [0, 2**62, -(2**62)])
def test_requantize_rounds_down_at_the_ends(shift, m, bias):
    op = requantize('y', 'pixels', 1, ir.INT32, m, bias, shift)
    check(network(op), image_of(0, 1, 99, 100, 101, 255))


def test_requantize_rounds_negative_ties_upwards():
    op = requantize('y', 'pixels', 1, ir.Grid(-99, 99), 1, 1, 1)
    found = check(network(op), image_of(97, 98, 99, 100, 101))['y']
    assert found.ravel().tolist() == [-1, -1, 0, 0, 1]


def test_products_of_more_than_63_bits_are_refused():
    """They fit int64 with their sign, but not when all are made positive."""
    x = np.array([ir.INT32.lo, ir.INT32.hi], np.int32).reshape(1, 1, 1, 2)
    for bias in (0, 2**34):
        op = requantize('y', 'x', 1, BYTES, 2**31 - 1, bias, 47)
        program, image = from_pixels(*program_of(op, [x], {}))
        prove(program)
        if not bias:
            check(program, image)
        else:
            with pytest.raises(UserError, match='^operator y: .* products'):
                model(program)


def test_sums_beyond_32_bits():
    """Both terms are at their limit; the sum is as the contract has it."""
    most = 2**30 - 1
    x = np.array([most, -most, most, 0], np.int32).reshape(1, 1, 1, 4)
    y = np.array([most, -most, -most, 7], np.int32).reshape(1, 1, 1, 4)
    op = ir.Add('z', ('x', 'y'), 1, ir.Grid(-5, 5))
    program, values = program_of(op, [x, y], {}, codes=ir.Grid(-most, most))
    program, image = from_pixels(program, values)
    for run in (run_onnxruntime, run_evaluator):
        found = run(model(program), image=image)['z']
        assert found.ravel().tolist() == [5, -5, 0, 5]


def test_means_round_ties_upwards():
    x = np.zeros((1, 2, 8, 16), np.int16)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = 1, -1
    x[0, :, 0, 1] = 1, -1
    x = np.concatenate([x, 0 * x], 3)  # 256 places; 2/256 of a code is 2
    op = ir.Mean('y', ('x',), 2, INT16.scaled(256))
    found = check(*from_pixels(*program_of(op, [x], {})))
    assert found['y'].ravel().tolist() == [2, -2]


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('epsilon', [1, 2**48])
def test_group_norm_of_extremes(groups, epsilon):
    """The largest deviations and the shortest shift, and saturation."""
    x = np.full((1, 2, 16, 16), INT16.lo, np.int16)
    x[0, 0, 0, 0], x[0, 1] = INT16.hi, INT16.hi
    op = ir.GroupNorm('y', ('x',), 2, ir.Grid(-32767, 32767), groups, epsilon)
    check(*from_pixels(*program_of(op, [x], {})))


def roots() -> np.ndarray:
    """Variances of all sizes, many of them next to squares."""
    rng = np.random.default_rng(0)
    powers = 2 ** np.arange(49)
    random = (2 ** rng.uniform(0, 49, 2000)).astype(np.int64)
    # Times 4^6 they are one below a square, where Newton's steps alternate.
    t = rng.integers(2**19, 741455, 2000)
    below = t * (1024 * t + 1)
    for values in below.tolist():
        assert isqrt(values * 4**6 + 1) ** 2 == values * 4**6 + 1
    squares = rng.integers(1, 2**24, 2000) ** 2
    near = [values + i for values in (powers, squares) for i in (-1, 0, 1)]
    values = np.concatenate([*near, random, below])
    return values[(values > 0) & (values < 2**49)]


def test_reciprocal_roots():
    """As the contract has them, for variances from 1 to 2^49."""
    values = roots()
    expected = []
    for v in values.tolist():
        e = next(e for e in range(31, -1, -1) if v * 4**e < 2**62)
        expected.append((2**60 // isqrt(v * 4**e), 2 ** (56 - e)))
    graph = Graph({})
    names = reciprocal_root(graph, 'v')
    for found in results(graph, names, v=values):
        assert list(zip(*(x.tolist() for x in found), strict=True)) == expected


def test_a_product_with_one_value_of_each_map():
    x = np.arange(-12, 12, dtype=np.int8).reshape(1, 2, 3, 4)
    y = np.array([-128, 127], np.int8).reshape(1, 2, 1, 1)
    op = ir.Multiply('z', ('x', 'y'), 2, ir.INT32)
    check(*from_pixels(*program_of(op, [x, y], {})))


@pytest.mark.parametrize(
    'grid', [BYTES, ir.Grid(-128, 127), ir.Grid(1000, 1255), ir.Grid(0, 256)]
)
def test_codes_of_256_values_and_more(grid):
    middle = requantize('y', 'pixels', 1, grid, 7, 900, 1)
    last = requantize('z', 'y', 1, ir.INT32, 3, 0, 0)
    check(
        network(middle, last), np.arange(256, dtype=np.uint8)[None, None, None]
    )
