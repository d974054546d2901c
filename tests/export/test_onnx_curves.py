"""Functions on integers as nodes: ONNX computes what the runtime does."""

from math import isqrt

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export import onnx_curves
from aqd_mmdet.export.onnx_curves import Fixed
from aqd_mmdet.export.onnx_graph import Graph
from aqd_mmdet.program.detector import Curve
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import curves
from tests.export.models import results

CODE = 2**31 - 1
codes = st.lists(st.integers(-CODE, CODE), min_size=1, max_size=20)


def check(graph: Graph, name: str, expected: np.ndarray, **inputs: np.ndarray):
    for (found,) in results(graph, [name], expected.ndim, **inputs):
        assert np.array_equal(found, expected)


@given(
    x=codes,
    m=st.integers(-CODE - 1, CODE),
    b=st.integers(-(2**62), 2**62),
    s=st.integers(0, 47),
    end=st.integers(0, 2**30),
)
@settings(max_examples=60, deadline=None)
def test_fixed(x, m, b, s, end):
    """With any numbers that a file may have."""
    values = np.array([*x, CODE, -CODE], np.int64)[:, None]
    table = Multipliers(
        np.array([m], np.int32), np.array([b]), np.array([s], np.uint8)
    )
    graph = Graph({})
    name = onnx_curves.fixed(graph, 'x', Fixed.of(table), -end, end)
    check(graph, name, curves.fixed(values, table, -end, end), x=values)


@given(
    table=st.lists(st.integers(0, 2**30), min_size=2, max_size=9),
    bits=st.integers(0, 24),
    first=st.integers(-(2**24), 2**24),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_curves(table, bits, first, seed):
    curve = Curve(np.array(table, np.int32), first, bits)
    last = first + ((len(table) - 1) << bits) - 1
    inside = np.random.default_rng(seed).integers(
        first, last, 20, endpoint=True
    )
    x = np.array([first, last, *inside], np.int64)
    graph = Graph({})
    name = onnx_curves.read_curve(graph, curve, 'x')
    check(graph, name, curves.read_curve(curve, x), x=x)


@given(x=st.lists(st.integers(-(2**62), 2**62)), bits=st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_rounded(x, bits):
    half = 1 << (bits - 1)
    values = np.array([*x, -3 * half, -half, -half - 1, half], np.int64)
    graph = Graph({})
    name = onnx_curves.rounded(graph, 'x', bits)
    check(graph, name, curves.rounded(values, bits), x=values)


def test_square_roots_are_floored():
    rng = np.random.default_rng(0)
    squares = rng.integers(1, 2**24, 2000, endpoint=True) ** 2
    powers = 2 ** np.arange(49)
    x = np.concatenate([[0, 2, 2**48], squares, squares - 1, powers])
    expected = np.array([isqrt(each) for each in x.tolist()])
    graph = Graph({})
    check(graph, onnx_curves.square_root(graph, 'x'), expected, x=x)
