"""Requantizes of floats: right for all numbers, or not by this way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export.onnx_graph import Graph, Tensor
from aqd_mmdet.export.qonnx_graph import tensor
from aqd_mmdet.export.qonnx_requantize import Stairs, affine, requantize
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint, real_multipliers

GRIDS = [
    ir.Grid(0, 3), ir.Grid(0, 15), ir.Grid(0, 255), ir.Grid(-127, 127),
    ir.Grid(-7, 6), ir.Grid(-1024, 1024), ir.Grid(5, 260), ir.Grid(3, 3),
]  # fmt: skip
LARGEST = 5000


def operator(seed: int, grid: ir.Grid) -> tuple[ir.Requantize, Tensor]:
    """A Requantize of five channels, and the numbers that it reads."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(-LARGEST, LARGEST, (2, 5)), axis=0)
    ratio = rng.uniform(0.1, 2, 5) * len(grid) / LARGEST
    ratio *= rng.choice([1, 1, -1, 0], 5)
    offset = rng.uniform(grid.lo - 2, grid.hi + 2, 5)
    table = real_multipliers(ratio, offset, FixedPoint())
    op = ir.Requantize('y', ('x',), 5, grid, table)
    return op, tensor('x', low.astype(object), high.astype(object))


def contract(op: ir.Requantize, numbers: np.ndarray) -> np.ndarray:
    """The codes of numbers, (C, K)."""
    m, b, s = (
        each.astype(object)[:, None]
        for each in (op.multipliers.m, op.multipliers.b, op.multipliers.s)
    )
    found = [
        [(x * m[c, 0] + b[c, 0]) >> s[c, 0] for x in row]
        for c, row in enumerate(numbers.tolist())
    ]
    return np.array(found).clip(*op.grid.ends)


def numbers_of(stairs: Stairs) -> np.ndarray:
    """All numbers of each channel, the last one several times."""
    count = (stairs.high - stairs.low).max() + 1
    return np.minimum(stairs.low + np.arange(count), stairs.high)


@given(seed=st.integers(0, 2**32 - 1), grid=st.sampled_from(GRIDS))
@settings(max_examples=60, deadline=None)
def test_borders(seed, grid):
    op, x = operator(seed, grid)
    stairs = Stairs.of(op, x)
    numbers = numbers_of(stairs)
    expected = contract(op, numbers * stairs.sign)
    assert np.array_equal(stairs.codes(numbers), expected)
    passed = numbers[:, :, None] >= stairs.first()[:, None]
    assert np.array_equal(grid.lo + passed.sum(2), expected)


@given(seed=st.integers(0, 2**32 - 1), grid=st.sampled_from(GRIDS))
@settings(max_examples=80, deadline=None)
def test_floats_are_right_for_all_numbers(seed, grid):
    op, x = operator(seed, grid)
    stairs = Stairs.of(op, x)
    parts = affine(stairs)
    if parts is None:
        # Few codes leave place between two numbers.
        assert len(grid) > 16
        return
    ratio, addend = parts
    assert ratio.dtype == addend.dtype == np.float32
    assert (ratio > 0).all()
    numbers = numbers_of(stairs)
    found = np.rint(numbers.astype(np.float32) * ratio + addend)
    assert np.array_equal(
        found.clip(*grid.ends), contract(op, numbers * stairs.sign)
    )


def one(m: int, b: int, s: int, largest: int, grid: ir.Grid) -> list[str]:
    """The kinds of nodes of a Requantize of numbers up to the largest."""
    table = ir.Multipliers(
        np.array([m], np.int32), np.array([b]), np.array([s], np.uint8)
    )
    op = ir.Requantize('y', ('x',), 1, grid, table)
    ends = (np.array([end], object) for end in (-largest, largest))
    graph = Graph({})
    requantize(graph, op, [tensor('x', *ends)], {})
    return [node.kind for node in graph.nodes]


@pytest.mark.parametrize(
    'grid, kinds',
    [
        (ir.Grid(0, 3), ['Mul', 'Add', 'Relu', 'Quant']),
        (ir.Grid(-2, 1), ['Mul', 'Add', 'Quant']),
        (ir.Grid(-2, 2), ['Mul', 'Add', 'Clip', 'Quant']),
    ],
)
def test_few_codes_have_a_quant(grid, kinds):
    assert one(2**22 + 1, 2**29, 30, 2**11, grid) == kinds


def test_codes_that_floats_do_not_tell_apart_have_thresholds():
    """Numbers have 23 bits, and each border needs the last of them."""
    m, s = 2**24 - 3, 39
    bias = 2**38 + 12345
    kinds = one(m, bias, s, 2**23, ir.Grid(0, 255))
    assert kinds == ['MultiThreshold']
    kinds = one(-m, bias, s, 2**23, ir.Grid(0, 255))
    assert kinds == ['Mul', 'MultiThreshold']


def test_more_codes_are_computed_with_doubles():
    kinds = one(2**24 - 3, 2**38 + 12345, 36, 2**23, ir.Grid(-1024, 1024))
    assert kinds == [
        'Cast', 'Mul', 'Add', 'Clip', 'Cast', 'Cast', 'Add', 'Quant'
    ]  # fmt: skip


def test_what_floats_do_not_hold_stays_an_integer():
    kinds = one(2**23, 2**22, 23, 2**20, ir.INT32)
    assert kinds[0] == 'Cast'
    assert 'Quant' not in kinds
