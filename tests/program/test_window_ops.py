"""What convolution and pooling compute, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.runtime.reference import run_op

CONV = ir.Convolution(
    'y', ('x',), 2, ir.INT32, (1, 2), (1, 2), (0, 1), (1, 1), 'w', 2
)
CODES = np.array([[[[1, 3]]], [[[-1, 1]]]], np.int8)
WEIGHTS = {'w': ir.Weights.of(CODES, 3)}
POOL = ir.MaxPool(
    'y', ('x',), 1, ir.Grid(-9, 9), (3, 3), (2, 2), (1, 1), (1, 1)
)


def source(lo: int, hi: int, channels: int) -> ir.Op:
    return ir.Region('x', ('image',), channels, ir.Grid(lo, hi))


def test_windows_reach_by_their_dilation():
    op = replace(POOL, kernel=(3, 2), dilation=(2, 5), padding=(0, 0))
    assert op.reach == (5, 6)
    assert op.size({'x': (9, 6)}) == (3, 1)


def test_size_counts_whole_windows():
    assert POOL.size({'x': (7, 8)}) == (4, 4)
    assert CONV.size({'x': (3, 5)}) == (3, 3)


def test_convolution_of_groups_with_a_border_of_0():
    x = np.array([[[[1, 2, 3]], [[4, 5, 6]]]], np.int16)
    # Windows (0, 1) and (2, 3) of the first map, of the second (0, 4), (5, 6).
    found = run_op(CONV, [x], ir.Program((), WEIGHTS, (), 1))
    assert found.tolist() == [[[[3, 11]], [[4, 1]]]]
    assert found.dtype == np.int32


def test_the_border_has_the_zero_points():
    x = np.array([[[[1, 2, 3]], [[4, 5, 6]]]], np.int16)
    op = replace(CONV, zero=(1, 6))
    # Windows (0, 0) and (1, 2), of the second map (0, -2), (-1, 0).
    found = run_op(op, [x], ir.Program((), WEIGHTS, (), 1))
    assert found.tolist() == [[[[0, 7]], [[-2, 1]]]]
    # One for all: (0, -5) and (-4, -3); (0, -2), (-1, 0).
    found = run_op(
        replace(CONV, zero=(6,)), [x], ir.Program((), WEIGHTS, (), 1)
    )
    assert found.tolist() == [[[[-15, -13]], [[-2, 1]]]]


def test_zero_points_may_be_the_ends_of_the_grid():
    for zero in ((2, 5), (5,), (2,)):
        replace(CONV, zero=zero).check([source(2, 5, 2)], WEIGHTS)


def test_a_zero_point_adds_to_the_bound():
    op = replace(CONV, zero=(-1, -3))
    magnitude, _ = op.bound([np.array([5], object)], WEIGHTS)
    assert magnitude.tolist() == [4 * 8, 2 * 8]


def test_convolution_is_bounded_by_its_weights():
    magnitude, bits = CONV.bound([np.array([5], object)], WEIGHTS)
    assert (magnitude.tolist(), bits) == ([20, 10], 31)


@pytest.mark.parametrize(
    'changes, grid, message',
    [
        (dict(weights='v'), (0, 3), "expected weights that .*w.*found 'v'"),
        (dict(groups=0), (0, 3), 'groups that divide its 2 and 2 channels'),
        (
            dict(kernel=(2, 2)),
            (0, 3),
            r'weights of shape \(2, 1, 2, 2\), found \(2, 1, 1, 2\)',
        ),
        (dict(grid=ir.Grid(0, 3)), (0, 3), 'the range -.*found 0..3'),
        ({}, (1, 3), 'the zero points 0..0, which the border is, found 1..3'),
        (dict(zero=(1, 4)), (0, 3), 'the zero points 1..4, which .* 0..3'),
        (dict(zero=(-1,)), (0, 3), 'the zero points -1..-1, which'),
        (dict(zero=(1, 1, 1)), (0, 3), 'of each of 2 channels, .*, found 3'),
        (dict(zero=()), (0, 3), 'of each of 2 channels, .*, found 0'),
        ({}, (0, 2**15 + 1), 'operator y: expected'),
    ],
)
def test_convolutions_that_are_refused(changes, grid, message):
    CONV.check([source(0, 3, 2)], WEIGHTS)
    with pytest.raises(UserError, match=message):
        replace(CONV, **changes).check([source(*grid, 2)], WEIGHTS)


def test_pooling_has_a_border_of_the_lowest_code():
    x = np.array([[[[-9, -8, 1], [-7, -9, -9], [-9, -9, -9]]]], np.int16)
    found = run_op(POOL, [x], ir.Program((), {}, (), 1))
    assert found.tolist() == [[[[-7, 1], [-7, -9]]]]


def test_pooling_has_no_window_outside():
    POOL.check([source(-9, 9, 1)], {})
    with pytest.raises(UserError, match='up to half of the 3 .*, found 2'):
        replace(POOL, padding=(1, 2)).check([source(-9, 9, 1)], {})
    with pytest.raises(UserError, match='operator y: expected .*-10..9'):
        POOL.check([source(-10, 9, 1)], {})
