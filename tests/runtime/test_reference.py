"""How the reference executor runs a program."""

from dataclasses import replace

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference

ONE = Multipliers(
    np.ones(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.uint8)
)
PROGRAM = ir.Program(
    (
        ir.Image('p', ('image',), 3, ir.Grid(-255, 255), (1, 2, 3)),
        ir.Slice('s', ('p',), 1, ir.Grid(-255, 255), 2, (0, 0), (1, 1)),
        ir.Requantize('y', ('s',), 1, ir.Grid(-2, 2), ONE),
    ),
    {},
    (ir.Output(('y', 's'), 1.0),),
    1,
)
PIXELS = np.array([[[[9, 9]], [[9, 9]], [[0, 4]]]], np.uint8)


def test_outputs_by_name():
    found = reference.run(PROGRAM, PIXELS)
    assert {name: x.tolist() for name, x in found.items()} == {
        'y': [[[[-2, 1]]]],
        's': [[[[-3, 1]]]],
    }


def test_every_tensor_is_seen_in_the_type_of_its_codes():
    types = []
    reference.run(
        PROGRAM, PIXELS, lambda op, x: types.append((op.output, x.dtype.name))
    )
    assert types == [('p', 'int16'), ('s', 'int16'), ('y', 'int8')]


def test_sides_that_are_no_multiples_of_the_stride_are_refused():
    whole = replace(PROGRAM, stride=2)
    pixels = PIXELS.repeat(2, 2)
    assert reference.run(whole, pixels)['y'].shape == (1, 1, 2, 2)
    with pytest.raises(UserError, match='multiples of 2, .* found 1 x 2$'):
        reference.run(whole, PIXELS)
