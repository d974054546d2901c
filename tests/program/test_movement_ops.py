"""Where operators that change no code take their codes from."""

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.runtime.reference import run_op

EMPTY = ir.Program((), {}, (), 1)
BYTE = ir.Grid(0, 255)
MAP = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)


def source(channels: int, grid: ir.Grid = BYTE) -> ir.Op:
    return ir.Region('x', ('image',), channels, grid)


def test_upsampling_takes_the_nearest_above_and_left():
    op = ir.Upsample('z', ('x', 'y'), 1, BYTE)
    like = np.zeros((1, 1, 3, 5), np.uint8)
    found = run_op(op, [MAP[:, :, :2, :2], like], EMPTY)
    assert found.tolist() == [
        [[[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [4, 4, 4, 5, 5]]]
    ]
    assert op.size({'x': (2, 2), 'y': (3, 5)}) == (3, 5)


def test_concatenation_counts_channels():
    op = ir.Concatenate('z', ('x', 'x'), 2, BYTE)
    found = run_op(op, [MAP, MAP[:, :, ::-1]], EMPTY)
    assert found[0, :, 0, 0].tolist() == [0, 8]
    with pytest.raises(UserError, match='the 3 channels of its inputs, fou'):
        op.check([source(1), source(2)], {})


def test_slices_step_from_their_offset():
    op = ir.Slice('y', ('x',), 1, BYTE, 1, (1, 0), (2, 3))
    two = np.concatenate([MAP, MAP + 100], 1)
    assert run_op(op, [two], EMPTY).tolist() == [[[[104, 107]]]]
    assert op.size({'x': (3, 4)}) == (1, 2)
    with pytest.raises(UserError, match='1 of the 1 channels .*from 1'):
        op.check([source(1)], {})
