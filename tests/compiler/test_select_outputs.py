"""Outputs that are channels of a program's outputs."""

import numpy as np

from aqd_mmdet.compiler.select_outputs import limit_output, select_outputs
from aqd_mmdet.program import ops as ir
from aqd_mmdet.runtime import reference

PROGRAM = ir.Program(
    (ir.Image('p', ('image',), 4, ir.Grid(-255, 255), (0, 0, 0, 0)),),
    {},
    (ir.Output(('p',), 0.5), ir.Output(('p',), 0.25)),
    1,
)


def test_neighbours_are_one_slice():
    program = select_outputs(
        PROGRAM, [(1, 'boxes', [2, 3, 0]), (0, 'logits', None)]
    )
    assert program.outputs == (
        ir.Output(('boxes.0',), 0.25),
        ir.Output(('p',), 0.5),
    )
    taken = [
        (op.first, op.channels)
        for op in program.ops
        if isinstance(op, ir.Slice)
    ]
    assert taken == [(2, 2), (0, 1)]
    pixels = np.array([5, 6, 7, 8], np.uint8).reshape(1, 4, 1, 1)
    found = reference.run(program, pixels)
    assert found['boxes.0'].ravel().tolist() == [7, 8, 5]
    assert found['p'].ravel().tolist() == [5, 6, 7, 8]


def test_channels_are_limited_each_by_its_own():
    low = np.array([-np.inf, -np.inf, 5.6, 0.0])
    high = np.array([5.4, 5.4, np.inf, 7.5])
    program = limit_output(PROGRAM, 1, 'limited', [(low, high)])
    assert program.outputs == (
        ir.Output(('p',), 0.5),
        ir.Output(('limited.0',), 0.25),
    )
    # Channels of the same limits are one slice.
    assert sum(isinstance(op, ir.Slice) for op in program.ops) == 3
    pixels = np.array([4, 6, 5, 9], np.uint8).reshape(1, 4, 1, 1)
    found = reference.run(program, pixels)
    assert found['limited.0'].ravel().tolist() == [4, 5, 6, 8]
