import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.bounds import prove
from aqd_mmdet.program.fixed_point import Multipliers


def program(
    channels: int, code: int, m: int = 1, b: int = 0, zero: int = 0
) -> ir.Program:
    codes = np.full((1, channels, 1, 1), code, np.int16)
    one = (1, 1)
    table = Multipliers(
        np.array([m], np.int32), np.array([b], np.int64), np.zeros(1, np.uint8)
    )
    return ir.Program(
        (
            ir.Image('p', ('image',), channels, ir.Grid(-255, 255), (0,)),
            ir.Convolution(
                'a',
                ('p',),
                1,
                ir.INT32,
                one,
                one,
                (0, 0),
                one,
                'w',
                1,
                (zero,),
            ),
            ir.Requantize('q', ('a',), 1, ir.Grid(0, 3), table),
        ),
        {'w': ir.Weights.of(codes, 8)},
        (),
        1,
    )


def test_bounds_are_those_of_the_weights():
    bounds = prove(program(2, 127, m=-4, b=-5))
    assert [(b.name, b.largest) for b in bounds] == [
        ('a', 2 * 127 * 255),
        ('q', 4 * 2 * 127 * 255 + 5),
    ]
    assert bounds[0].headroom == pytest.approx(31 - np.log2(2 * 127 * 255))


def test_an_accumulator_that_could_overflow_is_refused():
    # 66311 * 127 * 255 is just below 2^31, one more channel is above.
    assert prove(program(66311, 127))
    with pytest.raises(UserError, match=r'^operator a: .* 31 bits, found'):
        prove(program(66312, 127))


def test_a_product_that_could_overflow_is_refused():
    with pytest.raises(UserError, match=r'^operator q: .* 63 bits'):
        prove(program(60000, 127, m=2**31 - 1, b=2**62 + 2**61))


def test_a_zero_point_adds_to_the_largest_code():
    bounds = prove(program(2, 127, zero=-100))
    assert bounds[0].largest == 2 * 127 * 355
    # 47631 * 127 * 355 is just below 2^31, one more channel is above.
    assert prove(program(47631, 127, zero=100))
    with pytest.raises(UserError, match=r'^operator a: .* 31 bits, found'):
        prove(program(47632, 127, zero=100))
