"""Operators that move codes: ONNX moves them as the reference does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.program import ops as ir
from tests.export.models import PIXELS, check, from_pixels
from tests.specification.random_operators import random_operator


@pytest.mark.parametrize('kind', ['Upsample', 'Concatenate', 'Slice'])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_random_operators(kind, seed):
    check(*from_pixels(*random_operator(kind, seed)))


@pytest.mark.parametrize(
    'before, after', [(7, 25), (25, 7), (3, 41), (41, 41)]
)
def test_rows_of_every_ratio(before, after):
    """Indices are quotients of integers, which floats may miss."""
    ops = (
        ir.Image('p', ('image',), 1, PIXELS, (3,)),
        ir.Slice('x', ('p',), 1, PIXELS, 0, (0, 0), (1, after)),
        ir.Slice('y', ('p',), 1, PIXELS, 0, (0, 0), (before, 1)),
        ir.Upsample('xy', ('x', 'y'), 1, PIXELS),
        ir.Upsample('yx', ('y', 'x'), 1, PIXELS),
    )
    outputs = (ir.Output(('xy', 'yx'), 1.0),)
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 41, 41))
    check(ir.Program(ops, {}, outputs, 1), image.astype(np.uint8))


def test_channels_keep_their_means():
    """Focus of YOLOX: pixels of several places become channels."""
    parts = [
        ir.Slice(f's{i}', ('p',), 3, PIXELS, 0, (i // 2, i % 2), (2, 2))
        for i in range(4)
    ]
    names = tuple(part.output for part in parts)
    ops = (
        ir.Image('p', ('image',), 3, PIXELS, (1, 100, 255)),
        *parts,
        ir.Concatenate('all', names, 12, PIXELS),
        ir.Slice('some', ('all',), 2, PIXELS, 4, (0, 0), (1, 1)),
    )
    outputs = (ir.Output(('all', 'some'), 1.0),)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 4))
    check(ir.Program(ops, {}, outputs, 2), image.astype(np.uint8))
