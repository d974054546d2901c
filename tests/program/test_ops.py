"""What operators of single codes compute, refuse and are bounded by."""

from dataclasses import replace

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime.reference import run_op

EMPTY = ir.Program((), {}, (), 1)
BYTE = ir.Grid(0, 255)


def result(op: ir.Op, *inputs: list) -> list:
    """Run an operator on maps of a batch of one."""
    arrays = [np.array([x], np.int32) for x in inputs]
    return run_op(op, arrays, EMPTY)[0].tolist()


def source(lo: int, hi: int, channels: int = 1) -> ir.Op:
    return ir.Region('x', ('image',), channels, ir.Grid(lo, hi))


def test_image_is_pixels_less_their_mean():
    op = ir.Image('y', ('x',), 2, ir.Grid(-255, 255), (10, 255))
    assert result(op, [[[0, 255]], [[0, 255]]]) == [
        [[-10, 245]],
        [[-255, 0]],
    ]


def test_requantize_rounds_down_behind_its_bias_and_saturates():
    # (3 x + 4) >> 3: 3/8 of a code, rounded half up.
    multipliers = Multipliers(
        np.array([3], np.int32), np.array([4]), np.array([3], np.uint8)
    )
    op = ir.Requantize('y', ('x',), 1, ir.Grid(-1, 2), multipliers)
    codes = [[-9, -4, -2, -1, 0, 1, 2, 4, 9]]
    assert result(op, [codes]) == [[[-1, -1, -1, 0, 0, 0, 1, 2, 2]]]


def test_requantize_is_bounded_by_its_factor_and_bias():
    multipliers = Multipliers(
        np.array([-3], np.int32), np.array([-4]), np.array([3], np.uint8)
    )
    op = ir.Requantize('y', ('x',), 1, BYTE, multipliers)
    magnitude, bits = op.bound([np.array([10], object)], {})
    assert (magnitude.tolist(), bits) == ([34], 63)


def test_add_saturates():
    op = ir.Add('z', ('x', 'y'), 1, ir.Grid(-8, 7))
    assert result(op, [[[5, -5, 1]]], [[[5, -5, 2]]]) == [[[7, -8, 3]]]


def test_add_takes_terms_whose_sum_fits_int32():
    op = ir.Add('z', ('x', 'y'), 1, BYTE)
    most = 2**30 - 1
    op.check([source(-most, most), source(-most, most)], {})
    assert result(op, [[[most, -most]]], [[[most, -most]]]) == [[[255, 0]]]
    for wide in (source(0, most + 1), source(-most - 1, 0)):
        for terms in ([source(0, 1), wide], [wide, source(0, 1)]):
            with pytest.raises(UserError, match='operator z: .* 1073741823'):
                op.check(terms, {})


def test_multiply_takes_one_value_a_map():
    op = ir.Multiply('z', ('x', 'y'), 2, ir.INT32)
    x = [[[1, -2]], [[3, 4]]]
    assert result(op, x, [[[5]], [[-6]]]) == [[[5, -10]], [[-18, -24]]]
    assert op.size({'x': (3, 4), 'y': (1, 1)}) == (3, 4)
    with pytest.raises(UserError, match='operator z'):
        op.size({'x': (3, 4), 'y': (3, 1)})


def test_multiply_holds_all_products():
    op = ir.Multiply('z', ('x', 'y'), 1, ir.Grid(-20, 30))
    op.check([source(-2, 3), source(0, 10)], {})
    with pytest.raises(UserError, match='operator z: expected .*-22..33'):
        op.check([source(-2, 3), source(0, 11)], {})


def test_mean_is_rounded_half_up():
    op = ir.Mean('y', ('x',), 1, ir.INT32)
    # 1/512 and -1/512 of a code are half a unit of 2^-8.
    half = np.zeros((16, 32), int)
    half[0, 0] = 1
    assert result(op, [half.tolist()]) == [[[1]]]
    assert result(op, [(-half).tolist()]) == [[[0]]]
    assert result(op, [[[1, 2], [3, 4]]]) == [[[640]]]


def test_group_norm_of_two_values():
    # One deviation from the mean, on both sides.
    op = ir.GroupNorm('y', ('x',), 2, ir.INT32, 2, 1)
    assert result(op, [[[0, 2]], [[-300, 300]]]) == [
        [[-4096, 4096]],
        [[-4096, 4096]],
    ]


def test_group_norm_refuses_other_groups():
    for changes, message in (
        ((2, 1), 'groups that divide its 3 channels, found 2'),
        ((3, 0), 'an epsilon from 1 to 281474976710656, found 0'),
    ):
        op = ir.GroupNorm('y', ('x',), 3, ir.INT32, *changes)
        with pytest.raises(UserError, match=message):
            op.check([source(0, 3, 3)], {})


def test_lookup_starts_at_the_lowest_code():
    table = np.array([7, 8, 9], np.int32)
    op = ir.Lookup('y', ('x',), 1, BYTE, table, -1)
    assert result(op, [[[1, -1, 0]]]) == [[[9, 7, 8]]]
    op.check([source(-1, 1)], {})
    with pytest.raises(UserError, match='expected a table from 0'):
        op.check([source(0, 2)], {})
    with pytest.raises(UserError, match='for the codes -1..2'):
        op.check([source(-1, 2)], {})


def test_lookup_by_rows():
    table = np.array([7, 8, 9, 17, 18, 19], np.int32)
    x = [[[1, -1]], [[0, 1]], [[-1, 1]]]
    op = ir.Lookup('y', ('x',), 3, BYTE, table, -1, (1, 0, 1))
    assert result(op, x) == [[[19, 17]], [[8, 9]], [[17, 19]]]
    one = replace(op, rows=(1,))
    assert result(one, x) == [[[19, 17]], [[18, 19]], [[17, 19]]]
    for each in (op, one):
        each.check([source(-1, 1, 3)], {})


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(rows=(0, 1)), 'a row for each of its 3 .*, found 2, from 0'),
        (dict(rows=()), 'a row for each of its 3 .*, found 0, from 0'),
        (dict(rows=(0, -1, 1)), 'a row for each .*, found 3, from -1'),
        (dict(rows=(0, 0, 0)), r'1 x 3 numbers .*, found int32 \(6,\)'),
        (dict(rows=(2,)), r'3 x 3 numbers .*, found int32 \(6,\)'),
        (dict(table=np.arange(6)), r'of int32, .*, found int64 \(6,\)'),
        (dict(table=np.arange(251, 257, dtype=np.int32)), '0..255'),
    ],
)
def test_rows_that_are_refused(changes, message):
    table = np.array([7, 8, 9, 17, 18, 19], np.int32)
    op = ir.Lookup('y', ('x',), 3, BYTE, table, -1, (1, 0, 1))
    with pytest.raises(UserError, match=message):
        replace(op, **changes).check([source(-1, 1, 3)], {})
