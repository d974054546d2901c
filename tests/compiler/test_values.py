"""Formulas that stand for tensors while a program is made."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aqd_mmdet.compiler.values import (
    Affine,
    Movement,
    Table,
    TracedSize,
    clamped,
    pair,
    real,
)

SIZE = TracedSize('h x w', (2, 3))
ONE = np.ones(1)


def test_clamps_narrow_each_other():
    value = Affine('x', SIZE, ONE, ONE)
    assert not value.clamped
    twice = clamped(clamped(value, 0.0, 6.0), -1.0, 4.0)
    assert (twice.low, twice.high, twice.clamped) == (0.0, 4.0, True)
    # Beyond the other's range there is one value left.
    apart = clamped(clamped(value, 0.0, 1.0), 2.0, 3.0)
    assert (apart.low, apart.high) == (2.0, 2.0)


def test_tables_are_clamped_by_their_values():
    table = clamped(Table('x', SIZE, np.array([-3.0, 0.5, 9.0])), 0.0, 1.0)
    assert table.values.tolist() == [0.0, 0.5, 1.0]


def test_what_is_moved_is_clamped_before():
    moved = Movement(
        (Affine('x', SIZE, ONE, ONE),), lambda codes: codes[0], lambda x: [x]
    )
    (inner,) = clamped(moved, 0.0, 6.0).values
    assert (inner.source, inner.low, inner.high) == ('x', 0.0, 6.0)


@pytest.mark.parametrize(
    'shape, symbols, numbers',
    [((1, 4, 5, 6), '5 x 6', (5, 6)), ((1, 4), '1 x 1', (1, 1))],
)
def test_size_of_a_node(shape, symbols, numbers):
    node = SimpleNamespace(meta={'val': torch.zeros(shape)})
    assert TracedSize.of(node) == TracedSize(symbols, numbers)


def test_numbers_of_pytorch():
    assert pair(torch.Size([3, 4])) == (3, 4)
    assert real(torch.tensor([[0.5], [2.0]])).tolist() == [0.5, 2.0]
    assert real(3).tolist() == [3.0]
    assert real(3).dtype == np.float64
