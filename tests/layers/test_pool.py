import pytest
import torch
from mmdet.models.layers.brick_wrappers import AdaptiveAvgPool2d
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantAvgPool, QuantMean
from aqd_mmdet.layers.pool import MEAN


def test_windows_average_codes():
    pool = QuantAvgPool((2, 2), (2, 2), bits=2)
    pool.input_quantizer.start(torch.tensor(3.0))  # codes 0..3, a step of 1
    x = torch.tensor([[0.4, 1.5], [2.4, 9.0]]).view(1, 1, 2, 2)
    assert pool(x).item() == (0 + 2 + 2 + 3) / 4


def test_the_border_is_zero():
    pool = QuantAvgPool.from_float(nn.AvgPool2d(3, 1, 1), 8, 'unsigned')
    pool.input_quantizer.start(torch.tensor(255.0))
    assert pool(torch.ones(1, 1, 1, 1)).item() == pytest.approx(1 / 9)


def test_whole_maps():
    pool = QuantMean(2)
    pool.input_quantizer.start(torch.tensor(3.0))
    x = torch.tensor([0.4, 1.5, 2.4, 9.0]).view(1, 2, 1, 2)
    assert pool(x).flatten().tolist() == [1.0, 2.5]


class Kept(nn.AdaptiveAvgPool2d):
    pass


class Powers(nn.AdaptiveAvgPool2d):
    def forward(self, x):
        return super().forward(x**3) ** (1 / 3)


def test_means_are_of_classes_that_average():
    for kind in (nn.AdaptiveAvgPool2d, AdaptiveAvgPool2d, Kept):
        assert MEAN.applies(kind(1)) and MEAN.applies(kind((1, 1)))
        assert not MEAN.applies(kind(2))
    assert not MEAN.applies(Powers(1))


def test_windows_of_several_divisors_are_refused():
    pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    with pytest.raises(UserError, match='one divisor'):
        QuantAvgPool.from_float(pool, 8, 'unsigned')
    # As ResNet-D has it: no border, windows side by side.
    pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    layer = QuantAvgPool.from_float(pool, 8, 'unsigned')
    layer.input_quantizer.start(torch.tensor(255.0))
    assert layer(torch.ones(1, 1, 4, 6)).shape == (1, 1, 2, 3)
    for shape in ((1, 1, 4, 5), (1, 1, 3, 4)):
        for use in (layer.output_shape, lambda x: layer(torch.ones(x))):
            with pytest.raises(UserError, match='do not divide a map'):
                use(shape)


def test_a_border_that_is_not_there_counts_nothing():
    float_pool = nn.AvgPool2d(2, count_include_pad=False)
    layer = QuantAvgPool.from_float(float_pool, 8, 'unsigned')
    layer.input_quantizer.start(torch.tensor(255.0))
    assert torch.equal(
        layer(torch.ones(1, 1, 5, 5)), float_pool(torch.ones(1, 1, 5, 5))
    )


@pytest.mark.parametrize(
    'make', [QuantMean, lambda bits, grid: QuantAvgPool(2, 2, 0, bits, grid)]
)
def test_grids_with_gaps_are_refused(make):
    with pytest.raises(UserError, match="the grid 'odd' has"):
        make(4, 'odd')
