"""Curves of a program, against real functions."""

import numpy as np

from aqd_mmdet.runtime.curves import read_curve
from tests.heads import head_and_post_of


def test_exponentials_are_near():
    decoder = head_and_post_of('RetinaHead')[1].decoder
    x = np.linspace(-decoder.limit, decoder.limit, 5001).astype(np.int64)
    found = read_curve(decoder.exp, x)
    real = np.exp(x / 65536) * 65536
    assert (np.abs(found - real) <= 1 + 3e-6 * real).all()
