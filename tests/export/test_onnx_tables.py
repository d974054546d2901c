"""Fewer lookups compute the same."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export.onnx_model import network
from aqd_mmdet.export.onnx_tables import MAX_TABLE, with_fewer_lookups
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from tests.export.models import check, from_pixels, requantize
from tests.specification.random_operators import random_operator

SQUARES = np.arange(-2, 3, dtype=np.int32) ** 2
BYTES = ir.Grid(0, 255)


def random_multipliers(rng: np.random.Generator, count: int) -> Multipliers:
    """Multipliers, some of them equal."""
    kinds = rng.integers(0, 3, count)
    return Multipliers(
        rng.integers(-(2**31) + 1, 2**31, 3, np.int32)[kinds],
        rng.integers(-(2**50), 2**50, 3)[kinds],
        rng.integers(20, 48, 3, np.uint8)[kinds],
    )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_tables(seed):
    """Of two readers, and sometimes an output."""
    rng = np.random.default_rng(seed)
    program, image = from_pixels(*random_operator('Lookup', seed))
    channels = program.ops[-1].channels
    low = int(rng.integers(-300, 300))
    readers = [
        ir.Requantize(
            name, ('y',), channels,
            ir.Grid(low, low + int(rng.integers(0, 600))),
            random_multipliers(rng, int(rng.choice([1, channels]))),
        )
        for name in ('a', 'b')
    ]  # fmt: skip
    is_output = rng.random() < 0.3
    names = ('a', 'b', 'y') if is_output else ('a', 'b')
    program = replace(
        program, ops=(*program.ops, *readers),
        outputs=(ir.Output(names, 1.0),),
    )  # fmt: skip
    fewer = with_fewer_lookups(program)
    assert isinstance(fewer.by_output['a'], ir.Lookup)
    assert ('y' in fewer.by_output) == is_output
    expected, found = (reference.run(each, image) for each in (program, fewer))
    assert expected.keys() == found.keys()
    for name, codes in expected.items():
        assert np.array_equal(codes, found[name])
    check(program, image)


def squares(*readers: ir.Op, outputs: tuple[str, ...]) -> ir.Program:
    """A network of one channel: codes from -2 to 2, their squares, readers."""
    ops = (
        ir.Image('pixels', ('image',), 1, ir.Grid(-2, 253), (2,)),
        requantize('x', 'pixels', 1, ir.Grid(-2, 2), 1, 0, 0),
        ir.Lookup('y', ('x',), 1, ir.Grid(0, 4), SQUARES, -2),
        *readers,
    )
    return ir.Program(ops, {}, (ir.Output(outputs, 1.0),), 1)


def test_a_table_has_the_rounded_values():
    half = requantize('z', 'y', 1, BYTES, 1, 1, 1)
    *_, last = with_fewer_lookups(squares(half, outputs=('z',))).ops
    assert isinstance(last, ir.Lookup)
    assert (last.inputs, last.grid, last.first) == (('x',), BYTES, -2)
    # (4, 1, 0, 1, 4) / 2, and halves are rounded up.
    assert last.table.tolist() == [2, 1, 0, 1, 2]


def test_a_table_that_leaves_the_network_stays():
    half = requantize('z', 'y', 1, BYTES, 1, 1, 1)
    program = squares(half, outputs=('y', 'z'))
    fewer = with_fewer_lookups(program)
    assert [op.output for op in fewer.ops] == ['pixels', 'x', 'y', 'z']


def test_a_table_that_would_be_too_large_is_not_made():
    """As one of many codes would be, if each channel had its own."""
    channels, codes = 17, 4096
    grid = ir.Grid(0, codes - 1)
    assert (channels - 1) * codes == MAX_TABLE
    half = Multipliers(
        np.arange(1, channels + 1, dtype=np.int32),
        np.zeros(channels, np.int64),
        np.ones(channels, np.uint8),
    )
    ops = (
        ir.Image('pixels', ('image',), channels, BYTES, (0,) * channels),
        requantize('x', 'pixels', channels, grid, 1, 0, 0),
        ir.Lookup(
            'y', ('x',), channels, grid, np.arange(codes, dtype=np.int32), 0
        ),
        ir.Requantize('z', ('y',), channels, BYTES, half),
    )
    program = ir.Program(ops, {}, (ir.Output(('z',), 1.0),), 1)
    assert with_fewer_lookups(program) == program
    graph, tensors = network(program)
    assert tensors.keys() == {'image', 'pixels', 'x', 'y', 'z'}
    shifted = {node.name for node in graph.nodes if node.kind == 'BitShift'}
    assert 'z/BitShift' in shifted
