"""How PyTorch runs a program: types, and what is put in a tensor's place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aqd_mmdet.compiler.executor import Executor
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from tests.factories import detector, pixels

ONE = Multipliers(
    np.ones(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.uint8)
)
PIXELS = torch.tensor([9, 9, 4], dtype=torch.uint8).reshape(1, 3, 1, 1)


def program(weight: int) -> ir.Program:
    """A sum of three pixels times a weight of 8 bits, which levels share."""
    codes = np.full((1, 3, 1, 1), weight, np.int8)
    one = (1, 1)
    sums = [
        ir.Convolution(
            name, ('p',), 1, ir.INT32, one, one, (0, 0), one, 'w', 1
        )
        for name in ('c', 'd')
    ]
    return ir.Program(
        (
            ir.Image('p', ('image',), 3, ir.Grid(-255, 255), (0, 0, 3)),
            *sums,
            ir.Requantize('y', ('c',), 1, ir.Grid(-2, 9), ONE),
        ),
        {'w': ir.Weights.of(codes, 8)},
        (ir.Output(('y', 'd'), 1.0),),
        1,
    )


def test_outputs_in_the_types_of_their_codes():
    found = Executor(program(-1)).run(PIXELS)
    assert {name: (x.item(), x.dtype) for name, x in found.items()} == {
        'y': (-2, torch.int8),
        'd': (-19, torch.int32),
    }


def test_what_is_shown_may_be_replaced():
    seen = []

    def see(op: ir.Op, values: torch.Tensor) -> torch.Tensor | None:
        seen.append(op.output)
        return torch.full_like(values, 5) if op.output == 'c' else None

    found = Executor(program(1)).run(PIXELS, see)
    assert seen == ['p', 'c', 'd', 'y']
    assert (found['y'].item(), found['d'].item()) == (5, 19)


def test_products_keep_all_bits_while_a_program_runs():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('medium')
    seen = set()

    def see(op, values):
        seen.add(torch.get_float32_matmul_precision())
        seen.add(torch.backends.cudnn.enabled)

    try:
        program = detector().program
        Executor(program).run(pixels(1, 3, 8, 8), see)
        assert seen == {'highest', False}
        assert torch.get_float32_matmul_precision() == 'medium'
        assert torch.backends.cudnn.enabled
    finally:
        torch.set_float32_matmul_precision(before)


def test_levels_share_weights_in_a_type_that_is_exact():
    executor = Executor(program(127))
    first, second = (executor.constants[name][0] for name in 'cd')
    assert first is second
    # 3 x 127 x 255 is below 2^24.
    assert first.dtype == torch.float32
    wide = program(127)
    image, *others = wide.ops
    assert isinstance(image, ir.Image)
    large = ir.Image('p', ('image',), 3, ir.Grid(-(2**16), 2**16), (0, 0, 3))
    wide = ir.Program((large, *others), wide.weights, wide.outputs, 1)
    assert Executor(wide).constants['c'][0].dtype == torch.float64


def test_sides_that_are_no_multiples_of_the_stride_are_refused():
    executor = Executor(replace(program(1), stride=2))
    pixels = PIXELS.repeat(1, 1, 2, 2)
    assert executor.run(pixels)['d'].shape == (1, 1, 2, 2)
    with pytest.raises(UserError, match='multiples of 2, .* found 2 x 1$'):
        executor.run(pixels[..., :1])
