"""How values become operators of a program."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch.fx import Graph

from aqd_mmdet.compiler.builder import Builder, source_of
from aqd_mmdet.compiler.values import Affine, Movement, Table, TracedSize
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint

SIZE = TracedSize('h x w', (2, 3))
BYTE = ir.Grid(-127, 127)


@pytest.fixture
def builder() -> Builder:
    """A program that begins with the tensor ``x``: two channels, -7..7."""
    builder = Builder(SimpleNamespace(), FixedPoint())
    builder.emit(ir.Region('x', ('image',), 2, ir.Grid(-7, 7)), SIZE)
    return builder


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
        builder.quantize(value, step, BYTE, 'y') for step in (0.5, 0.5, 0.25)
    ]
    assert names == ['y', 'y', 'y#2']


def test_codes_that_are_right_already_are_read_as_they_are(builder):
    assert builder.quantize(affine(0.5), 0.5, BYTE, 'y') == 'x'
    # A narrower grid, an offset and another step need an operator.
    assert builder.quantize(affine(0.5), 0.5, ir.Grid(0, 7), 'y') == 'y'
    assert builder.quantize(affine(0.5, 1.0), 0.5, BYTE, 'y') == 'y#2'
    assert builder.quantize(affine(0.5), 1.0, BYTE, 'y') == 'y#3'


def test_limits_are_rounded_as_values_are(builder):
    value = affine(1.0, low=0.0, high=1.25)
    name = builder.quantize(value, 0.5, BYTE, 'y')
    assert builder.op(name).grid == ir.Grid(0, 3)


def test_tables_are_of_codes(builder):
    table = Table('x', SIZE, np.linspace(-7, 7, 15) / 2)
    name = builder.quantize(table, 1.0, ir.Grid(-2, 2), 'y')
    assert builder.op(name).first == -7
    assert builder.op(name).table.tolist() == [
        *(-2, -2, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 2, 2, 2)
    ]


def test_levels_of_an_output_have_the_smallest_scale(builder):
    builder.values = {'p3': affine(0.5), 'p4': affine(-0.25)}
    output = builder.output(('p3', 'p4'), 1)
    assert output == ir.Output(('output1.0', 'output1.1'), 0.25)


def test_an_output_that_is_moved_is_refused(builder):
    node = Graph().placeholder('image')
    builder.values = {node: Movement((affine(1.0),), lambda codes: codes[0])}
    with pytest.raises(UserError, match='^detector: image: an output is mov'):
        builder.output((node,), 0)


def test_steps_that_are_not_finite_are_refused(builder):
    with pytest.raises(UserError, match='^y: its clip value is not finite'):
        builder.quantize(affine(1.0), float('inf'), BYTE, 'y')


def test_where_a_node_comes_from():
    node = Graph().placeholder('image')
    node.meta['nn_module_stack'] = {
        'a': ('detector', object),
        'b': ('detector.neck', object),
    }
    node.meta['stack_trace'] = '  File "a.py", line 3\n    x + y\n'
    assert source_of(node) == 'neck: image (File "a.py", line 3)'
