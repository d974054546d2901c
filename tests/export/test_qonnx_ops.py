"""Operators in the terms of QONNX: the reference's codes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export.onnx_graph import Graph, integers
from aqd_mmdet.export.qonnx_graph import tensor
from aqd_mmdet.export.qonnx_model import model_of
from aqd_mmdet.export.qonnx_ops import add, convolution, signs_of
from aqd_mmdet.program import ops as ir
from tests.export import models
from tests.export.models import from_pixels, requantize
from tests.export.qonnx_operators import check_maps, evaluate
from tests.specification.random_operators import MAKERS, random_operator


@pytest.mark.parametrize('kind', [x for x in MAKERS if x != 'Region'])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_operators(kind, seed):
    program, images = from_pixels(*random_operator(kind, seed))
    image = images[:1]
    exported = models.model(program, partial(model_of, size=image.shape[2:]))
    check_maps(program, image, evaluate(exported, image))


def kinds_of_convolution(largest: int, sign: int) -> list[str]:
    """Nodes of a convolution with 257 weights of 127, or of -127."""
    codes = np.full((1, 257, 1, 1), 127 * sign, np.int8)
    one = (1, 1)
    op = ir.Convolution(
        'c', ('x',), 1, ir.INT32, one, one, (0, 0), one, 'w', 1
    )
    graph = Graph({'w': ir.Weights.of(codes, 8)})
    x = tensor('x', integers(0, 257), integers(largest, 257))
    convolution(graph, op, [x], {})
    return [node.kind for node in graph.nodes]


@pytest.mark.parametrize('sign', [1, -1])
def test_sums_that_floats_hold(sign):
    """Up to 2^24, less one for a number behind the last."""
    largest = (2**24 - 1) // (257 * 127)
    assert kinds_of_convolution(largest, sign) == ['Quant', 'Conv']
    kinds = kinds_of_convolution(largest + 1, sign)
    assert 'ConvInteger' in kinds
    assert 'Conv' not in kinds


def program_of_readers(*multipliers: int, leaves: bool) -> ir.Program:
    """A convolution and a Requantize of each multiplier."""
    one = (1, 1)
    weights = {'w': ir.Weights.of(np.ones((1, 1, 1, 1), np.int8), 2)}
    readers = [
        requantize(f'y{i}', 'c', 1, ir.Grid(0, 3), m, 0, 8)
        for i, m in enumerate(multipliers)
    ]
    names = tuple(op.output for op in readers)
    ops = (
        ir.Image('p', ('image',), 1, ir.Grid(0, 255), (0,)),
        ir.Convolution(
            'c', ('p',), 1, ir.INT32, one, one, (0, 0), one, 'w', 1
        ),
        *readers,
    )
    names += ('c',) * leaves
    return ir.Program(ops, weights, (ir.Output(names, 1.0),), 1)


@pytest.mark.parametrize(
    'multipliers, leaves, sign',
    [
        ((-3,), False, -1),
        ((3,), False, 1),
        ((-3, -5), False, -1),
        ((-3, 5), False, None),
        ((-3,), True, None),
        ((), True, None),
    ],
)
def test_signs(multipliers, leaves, sign):
    program = program_of_readers(*multipliers, leaves=leaves)
    found = signs_of(program)
    assert {k: v.tolist() for k, v in found.items()} == (
        {} if sign is None else {'c': [sign]}
    )
    image = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    exported = models.model(program, partial(model_of, size=(3, 4)))
    check_maps(program, image, evaluate(exported, image))


@pytest.mark.parametrize('lo', [0, -128])
def test_sums_that_floats_do_not_hold(lo):
    """Weights and codes that are all large, and a Requantize behind them."""
    rng = np.random.default_rng(0)
    codes = rng.choice([-127, 127], (2, 1100, 1, 1)).astype(np.int8)
    one, grid = (1, 1), ir.Grid(lo, lo + 255)
    places = np.arange(6, dtype=np.uint8)
    tables = rng.choice([lo, lo + 255], (2, 256)).astype(np.int32)
    names = [f'part{i}' for i in range(2)]
    ops = (
        ir.Image('pixels', ('image',), 1, ir.Grid(0, 255), (0,)),
        *(
            ir.Lookup(name, ('pixels',), 1, grid, table, 0, (0,))
            for name, table in zip(names, tables, strict=True)
        ),
        ir.Concatenate('x', tuple(names * 550), 1100, grid),
        ir.Convolution(
            'c', ('x',), 2, ir.INT32, one, one, (0, 0), one, 'w', 1
        ),
        requantize('y', 'c', 2, ir.Grid(0, 3), -5, 2**22, 23),
    )
    outputs = (ir.Output(('c', 'y'), 1.0),)
    program = ir.Program(ops, {'w': ir.Weights.of(codes, 8)}, outputs, 1)
    image = places.reshape(1, 1, 2, 3)
    exported = models.model(program, partial(model_of, size=(2, 3)))
    kinds = {node.op_type for node in exported.graph.node}
    assert 'ConvInteger' in kinds
    assert 'Conv' not in kinds
    check_maps(program, image, evaluate(exported, image))


@pytest.mark.parametrize(
    'largest, is_float', [(2**23 - 1, True), (2**23, False)]
)
def test_additions_that_floats_hold(largest, is_float):
    """Thresholds would need the number behind the last one."""
    op = ir.Add('y', ('a', 'b'), 1, ir.Grid(-(2**25), 2**25))
    graph = Graph({})
    inputs = [
        tensor(name, integers(0, 1), integers(largest, 1)) for name in 'ab'
    ]
    y = add(graph, op, inputs)
    assert (y.dtype == 'float32') == is_float
    assert (graph.nodes[0].kind == 'Add') == is_float
