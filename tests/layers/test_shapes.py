"""How many windows a map has."""

import pytest
import torch
from torch import nn

from aqd_mmdet.layers.shapes import windows


def test_literal_sizes():
    assert windows((7, 8), (3, 3), (2, 2), (1, 1)) == (4, 4)
    assert windows((9, 6), (3, 2), (1, 1), (0, 0), (2, 5)) == (5, 1)


@pytest.mark.parametrize(
    'window', [((3, 2), (2, 1), (1, 0), (1, 3)), ((1, 5), (3, 2), (0, 2), 1)]
)
def test_they_are_pytorchs(window):
    conv = nn.Conv2d(1, 1, *window)
    found = windows(
        (11, 9), conv.kernel_size, conv.stride, conv.padding, conv.dilation
    )
    assert conv(torch.zeros(1, 1, 11, 9)).shape[2:] == found
