"""Formulas that stand for tensors while a program is made."""

import numpy as np
import torch
from torch import nn

from aqd_mmdet.compiler.values import (
    SIDES,
    Affine,
    Movement,
    Table,
    TracedSize,
    clamped,
    pair,
    real,
    stride_of,
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


class Sizes(nn.Module):
    def forward(self, image):
        rows = image.mean((2, 3)) + torch.zeros(1, 3)
        fixed = image.new_zeros(1, 3, 8, 12)
        return image[:, :, ::2], image.transpose(2, 3) * 2, rows, fixed + 1


def test_sizes_of_nodes():
    sizes = {2: torch.export.Dim('h') * 4, 3: torch.export.Dim('w') * 4}
    exported = torch.export.export(
        Sizes(), (torch.zeros(1, 3, 32, 48),), dynamic_shapes=(sizes,)
    )
    (outputs,) = exported.graph.find_nodes(op='output')[0].args
    half, turned, rows, fixed = (TracedSize.of(x, 8).numbers for x in outputs)
    assert half[0::2] == tuple(down * 32 // 2 for down, _ in SIDES)
    assert half[1::2] == tuple(across * 32 for _, across in SIDES)
    assert turned[0::2] == tuple(across * 32 for _, across in SIDES)
    # 8 x 12 is what a quarter of the image was.
    assert (rows, fixed) == ((1, 1) * 3, (8, 12) * 3)


class Pyramid(nn.Module):
    """A map that is joined with a coarser one."""

    def forward(self, image):
        fine = nn.functional.max_pool2d(image, 3, 2, 1)
        coarse = nn.functional.max_pool2d(fine, 3, 2, 1)
        up = nn.functional.interpolate(coarse, scale_factor=2.0)
        factor = image.mean((2, 3), keepdim=True)
        return torch.cat([fine * factor, up], 1), coarse


def test_a_stride_with_which_joined_maps_fit():
    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(
        Pyramid(), (torch.zeros(1, 3, 32, 48),), dynamic_shapes=(sizes,)
    )
    assert [stride_of(exported.graph, n) for n in (1, 2, 4, 8, 3)] == [
        *(4, 4, 4, 8, 12),
    ]


def test_maps_that_never_fit_leave_the_stride():
    class Rows(nn.Module):
        def forward(self, image):
            return torch.cat([image, image[:, :, ::2]], 2)

    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(
        Rows(), (torch.zeros(1, 3, 32, 48),), dynamic_shapes=(sizes,)
    )
    assert stride_of(exported.graph, 3) == 3


def test_numbers_of_pytorch():
    assert pair(torch.Size([3, 4])) == (3, 4)
    assert real(torch.tensor([[0.5], [2.0]])).tolist() == [0.5, 2.0]
    assert real(3).tolist() == [3.0]
    assert real(3).dtype == np.float64
