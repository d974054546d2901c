"""How values become operators of a program."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.fx import Graph

from aqd_mmdet.compiler.builder import Builder, Scale, program_grid, source_of
from aqd_mmdet.compiler.values import Affine, Movement, Table, TracedSize
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.quantizers import (
    ImageQuantizer,
    TensorQuantizer,
    build_grid,
)

SIZE = TracedSize('h x w', (2, 3))
BYTE = ir.Grid(-127, 127)


@pytest.fixture
def builder() -> Builder:
    """A program that begins with the tensor ``x``: two channels, -7..7."""
    builder = Builder(SimpleNamespace(), FixedPoint())
    builder.emit(ir.Region('x', ('image',), 2, ir.Grid(-7, 7)), SIZE)
    return builder


def on(step: float, grid: ir.Grid = BYTE) -> Scale:
    return Scale.uniform(step, grid)


def scale_of(steps: list[float], zeros: list[int], grid: ir.Grid) -> Scale:
    return Scale(np.array(steps), np.array(zeros), grid)


def affine(scale: float, offset: float = 0.0, **limits: float) -> Affine:
    return Affine('x', SIZE, np.array([scale]), np.array([offset]), **limits)


def test_names_become_unique(builder):
    names = [builder.emit(builder.op('x'), SIZE) for _ in range(2)]
    assert names == ['x#2', 'x#3']
    assert [op.output for op in builder.ops] == ['x', 'x#2', 'x#3']


def test_the_last_tensor_of_a_size(builder):
    builder.emit(builder.op('x'), TracedSize('2 * k x w', (2, 3)))
    # By its symbols, or by its numbers.
    assert builder.tensor_of_size(SIZE) == 'x'
    assert builder.tensor_of_size(TracedSize('h x v', (2, 3))) == 'x#2'
    assert builder.tensor_of_size(TracedSize('h x v', (9, 9))) is None


def test_a_value_is_rounded_once_on_a_grid(builder):
    value = affine(1.0)
    names = [
        builder.quantize(value, on(step), 'y') for step in (0.5, 0.5, 0.25)
    ]
    assert names == ['y', 'y', 'y#2']


def test_codes_that_are_right_already_are_read_as_they_are(builder):
    assert builder.quantize(affine(0.5), on(0.5), 'y') == 'x'
    # A narrower grid, an offset and another step need an operator.
    assert builder.quantize(affine(0.5), on(0.5, ir.Grid(0, 7)), 'y') == 'y'
    assert builder.quantize(affine(0.5, 1.0), on(0.5), 'y') == 'y#2'
    assert builder.quantize(affine(0.5), on(1.0), 'y') == 'y#3'


def test_limits_are_rounded_as_values_are(builder):
    value = affine(1.0, low=0.0, high=1.25)
    name = builder.quantize(value, on(0.5), 'y')
    assert builder.op(name).grid == ir.Grid(0, 3)


def test_tables_are_of_codes(builder):
    table = Table('x', SIZE, np.linspace(-7, 7, 15) / 2)
    name = builder.quantize(table, on(1.0, ir.Grid(-2, 2)), 'y')
    assert builder.op(name).first == -7
    assert builder.op(name).table.tolist() == [
        *(-2, -2, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 2, 2, 2)
    ]


def test_scales_of_a_quantiser():
    quantizer = TensorQuantizer(
        build_grid('unsigned', 2), (1, 2, 1, 1), False, True
    )
    quantizer.start(
        torch.tensor([2.0, 0.5]).view(1, 2, 1, 1),
        torch.tensor([1.0, 2.0]).view(1, 2, 1, 1),
    )
    scale = Scale.of(quantizer)
    assert scale.step.tolist() == [1.0, 0.5]
    assert scale.zero.tolist() == [1, 2]
    assert scale.grid == ir.Grid(0, 3)
    pixels = Scale.of(ImageQuantizer())
    assert (pixels.step.tolist(), pixels.zero.tolist()) == ([1.0], [0])


def test_a_zero_point_is_part_of_the_offset(builder):
    scale = scale_of([0.5, 0.25], [1, 2], ir.Grid(0, 3))
    op = builder.op(builder.quantize(affine(0.5, 0.25), scale, 'y'))
    assert op.grid == ir.Grid(0, 3)
    # x * 1 + 0.5 + 1 and x * 2 + 1 + 2, and a half for the rounding.
    table = op.multipliers
    units = 2.0 ** -table.s.astype(float)
    assert (table.m * units).tolist() == [1.0, 2.0]
    assert (table.b * units).tolist() == [2.0, 3.5]


def test_codes_of_another_zero_point_are_others(builder):
    value, grid = affine(1.0), ir.Grid(-7, 7)
    names = [
        builder.quantize(value, scale_of([1.0], [zero], grid), 'y')
        for zero in (0, 1, 1, 2)
    ]
    assert names == ['x', 'y', 'y', 'y#2']


def test_limits_are_those_of_the_zero_point(builder):
    value = affine(1.0, low=0.0, high=1.25)
    name = builder.quantize(value, scale_of([0.5], [2], ir.Grid(0, 15)), 'y')
    assert builder.op(name).grid == ir.Grid(2, 5)


def test_a_relu6_in_front_of_channels_of_other_limits_is_refused(builder):
    value = affine(1.0, low=0.0, high=6.0)
    same = scale_of([3.0, 1.0], [0, 0], ir.Grid(0, 2))
    # Both channels end at the code 2, one of them by its grid.
    name = builder.quantize(value, same, 'y')
    assert builder.op(name).grid == ir.Grid(0, 2)
    for steps, zeros in (([3.0, 1.0], [0, 0]), ([1.0, 1.0], [0, 1])):
        scale = scale_of(steps, zeros, ir.Grid(0, 15))
        with pytest.raises(UserError, match='^z: .*act_per_channel=False'):
            builder.quantize(value, scale, 'z')


def test_tables_have_a_zero_point(builder):
    table = Table('x', SIZE, np.linspace(-7, 7, 15) / 2)
    scale = scale_of([1.0], [1], ir.Grid(0, 4))
    op = builder.op(builder.quantize(table, scale, 'y'))
    assert op.table.tolist() == [
        *(0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    ]


def test_a_table_in_front_of_steps_of_channels_is_refused(builder):
    table = Table('x', SIZE, np.linspace(-7, 7, 15) / 2)
    scale = scale_of([1.0, 2.0], [0, 0], ir.Grid(0, 4))
    with pytest.raises(UserError, match=r'^y: .*act=dict\(bits=14\)'):
        builder.quantize(table, scale, 'y')


def test_levels_of_an_output_have_the_smallest_scale(builder):
    builder.values = {'p3': affine(0.5), 'p4': affine(-0.25)}
    output = builder.output(('p3', 'p4'), 1)
    assert output == ir.Output(('output1.0', 'output1.1'), 0.25)


def real_codes(builder: Builder, output: ir.Output, x: int) -> list[float]:
    """Return what the levels of an output are where ``x`` is a code."""
    found = []
    for name in output.tensors:
        codes = np.full((1, 2, 1, 1), x, np.int64)
        op = builder.op(name)
        made = op.run((codes,), op.constants({}))
        found.append(float(made[0, 0, 0, 0]) * output.scale)
    return found


@pytest.mark.parametrize('x', [-7, 7])
@pytest.mark.parametrize('faint', [1e-8, 1e-12, 1e-30, 0.0])
@pytest.mark.parametrize('offset', [0.0, -4.6, 8e-7])
def test_strong_levels_of_an_output_fit(builder, faint, offset, x):
    levels = {
        'p3': affine(1.0, 0.5),
        'p4': affine(-0.25),
        'p5': affine(faint, offset),
    }
    builder.values = levels
    output = builder.output(tuple(levels), 1)
    found = real_codes(builder, output, x)
    expected = [x + 0.5, -x / 4, faint * x + offset]
    # A unit is at least 2^-23 of the strongest level's.
    assert found == pytest.approx(expected, rel=2e-7, abs=2.0**-24)


def test_the_limit_of_an_activation_bounds_an_output(builder):
    builder.values = {
        'p3': affine(1.0, high=2.0**-20, low=0.0),
        'p4': affine(2.0**-24),
    }
    output = builder.output(('p3', 'p4'), 1)
    assert output.scale < 2.0**-22


def test_an_output_that_is_0_has_a_scale(builder):
    builder.values = {'p3': affine(0.0)}
    output = builder.output(('p3',), 1)
    assert real_codes(builder, output, 7) == [0.0]


def test_an_output_that_is_moved_is_refused(builder):
    node = Graph().placeholder('image')
    moved = Movement((affine(1.0),), lambda codes: codes[0], lambda x: [x])
    builder.values = {node: moved}
    with pytest.raises(UserError, match='^detector: image: an output is mov'):
        builder.output((node,), 0)


def test_steps_that_are_not_finite_are_refused(builder):
    with pytest.raises(UserError, match='^y: its clip value is not finite'):
        builder.quantize(affine(1.0), on(float('inf')), 'y')


def test_where_a_node_comes_from():
    node = Graph().placeholder('image')
    node.meta['nn_module_stack'] = {
        'a': ('detector', object),
        'b': ('detector.neck', object),
    }
    node.meta['stack_trace'] = '  File "a.py", line 3\n    x + y\n'
    assert source_of(node) == 'neck: image (File "a.py", line 3)'


def test_grids_with_gaps_are_refused():
    assert program_grid(build_grid('signed', 2)) == ir.Grid(-1, 1)
    # Of a layer with a grid and a rule of its own.
    quantizer = TensorQuantizer(build_grid('odd', 2))
    quantizer.start(torch.tensor(3.0))
    with pytest.raises(UserError, match='-3..3 at a distance of 2'):
        Scale.of(quantizer)
