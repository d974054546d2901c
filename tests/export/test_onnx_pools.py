"""Pools in front of what rounds compute the same."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export.onnx_pools import with_pools_first
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import example, reference
from tests.export.models import check, requantize, run_onnxruntime
from tests.export.test_qdq_model import model

ONE = (1, 1)
CHANNELS = 3


def stem(
    rng: np.random.Generator, m: list[int], dilation: ir.Size = ONE
) -> ir.Program:
    """A convolution whose sums are rounded and pooled, twice.

    Args:
        rng: What is random.
        m: Multipliers of the channels.
        dilation: Of the pools.
    """
    weights = ir.Weights.of(rng.integers(-127, 128, (CHANNELS, 3, 3, 3)), 8)
    pool = ((3, 3), (2, 2), ONE, dilation)

    def rounding(name: str, grid: ir.Grid) -> ir.Requantize:
        table = Multipliers(
            np.array(m, np.int32),
            rng.integers(-(2**22), 2**22, CHANNELS),
            rng.integers(8, 12, CHANNELS).astype(np.uint8),
        )
        return ir.Requantize(name, ('sums',), CHANNELS, grid, table)

    bytes_, wide = ir.Grid(0, 255), ir.Grid(-1024, 1024)
    ops = (
        ir.Image('p', ('image',), 3, ir.Grid(-128, 255), (128, 0, 100)),
        ir.Convolution(
            'sums', ('p',), CHANNELS, ir.INT32, (3, 3), ONE, ONE, ONE, 'w', 1
        ),
        rounding('a', bytes_),
        ir.MaxPool('a.pooled', ('a',), CHANNELS, bytes_, *pool),
        rounding('b', wide),
        ir.MaxPool('b.pooled', ('b',), CHANNELS, wide, *pool),
    )
    outputs = (ir.Output(('a.pooled', 'b.pooled'), 1.0),)
    return ir.Program(ops, {'w': weights}, outputs, 1)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
@settings(max_examples=40, deadline=None)
def test_random_stems(seed, size):
    rng = np.random.default_rng(seed)
    program = stem(rng, rng.integers(0, 9, CHANNELS).tolist())
    image = rng.integers(0, 256, (2, 3, *size)).astype(np.uint8)
    first = with_pools_first(program)
    names = ['p', 'sums', 'sums/a.pooled', 'a.pooled', 'b.pooled']
    assert [op.output for op in first.ops] == names
    expected = reference.run(program, image)
    for name, codes in reference.run(first, image).items():
        assert np.array_equal(codes, expected[name])
    check(program, image)
    for name, values in run_onnxruntime(model(program), image=image).items():
        assert np.array_equal(values, expected[name].astype(np.float32))


def unmoved(program: ir.Program) -> bool:
    return with_pools_first(program) == program


def test_what_does_not_rise_with_the_sums_stays():
    rng = np.random.default_rng(0)
    assert not unmoved(stem(rng, [1, 0, 2]))
    assert unmoved(stem(rng, [1, -1, 2]))


def test_windows_with_holes_stay():
    assert unmoved(stem(np.random.default_rng(0), [1, 1, 1], (2, 1)))


@pytest.mark.parametrize('name', ['sums', 'a'])
def test_what_leaves_the_network_stays(name):
    program = stem(np.random.default_rng(0), [1, 1, 1])
    outputs = (*program.outputs, ir.Output((name,), 1.0))
    assert unmoved(replace(program, outputs=outputs))


@pytest.mark.parametrize('source', ['sums', 'a'])
def test_what_has_another_reader_stays(source):
    program = stem(np.random.default_rng(0), [1, 1, 1])
    grid = program.by_output[source].grid
    op = ir.Slice(
        'part', (source,), CHANNELS, grid, 0, (0, 0), ONE
    )  # fmt: skip
    outputs = (*program.outputs, ir.Output(('part',), 1.0))
    assert unmoved(replace(program, ops=(*program.ops, op), outputs=outputs))


def test_sums_that_are_rounded_once_stay():
    program = stem(np.random.default_rng(0), [1, 1, 1])
    outputs = (ir.Output(('a.pooled',), 1.0),)
    assert unmoved(replace(program, ops=program.ops[:4], outputs=outputs))


def test_a_name_that_is_taken():
    program = stem(np.random.default_rng(0), [1, 1, 1])
    op = requantize('sums/a.pooled', 'p', 3, ir.Grid(0, 3), 1, 0, 0)
    outputs = (*program.outputs, ir.Output((op.output,), 1.0))
    first = with_pools_first(
        replace(program, ops=(*program.ops, op), outputs=outputs)
    )
    assert len(first.by_output) == len(first.ops) == 6


def test_other_windows_stay():
    program = stem(np.random.default_rng(0), [1, 1, 1])
    (*ops, last) = program.ops
    other = replace(last, stride=ONE)
    assert unmoved(replace(program, ops=(*ops, other)))


def test_the_stem_of_a_trained_detector():
    program = file.load(example.MODEL)[0].program
    assert [type(op) for op in with_pools_first(program).ops[1:5]] == [
        ir.Convolution, ir.MaxPool, ir.Requantize, ir.Convolution
    ]  # fmt: skip
