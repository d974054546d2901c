import pytest
import torch
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import FixedPointActivation, QuantConv2d
from aqd_mmdet.post_training.ranges import (
    balanced_range,
    best_range,
    fixed_point_range,
    start_inputs,
)
from aqd_mmdet.quantizers import TensorQuantizer, build_grid
from aqd_mmdet.quantizers.fake_quantize import fake_quantize

GRID = build_grid('unsigned', 8)


def test_a_range_holds_values_that_are_few():
    # 0, 0.25, ..., 6.25 on a grid whose range is -0.5..12.25.
    rows = torch.tensor([[-0.5, *(0.25 * i for i in range(26)), 12.25]])
    clip, zero = best_range(rows, torch.ones(28), GRID, asymmetric=True)
    assert clip.item() == pytest.approx(12.25, abs=0.05)
    assert zero.item() == 10
    error = fake_quantize(rows, clip, GRID, zero) - rows
    assert error.abs().max() <= 0.026  # half a step


def test_weights_say_how_often_a_value_was_seen():
    rows = torch.cat([torch.linspace(0, 1, 50), torch.tensor([9.0])])[None]
    ends = [
        best_range(rows, torch.tensor([*[often] * 50, 1.0]), GRID, True)[0]
        for often in (1.0, 1e7)
    ]
    assert ends[0] > 8.5
    assert ends[1] < 3


def test_signed_ranges_have_no_zero_point():
    rows = torch.tensor([[-3.0, 1.0, 2.0]])
    clip, zero = best_range(rows, torch.ones(3), build_grid('signed', 8))
    assert clip.item() == 3
    assert zero.item() == 0


def test_what_silu_makes_nothing_of_is_cut_off():
    layer = FixedPointActivation(nn.SiLU(), 9)
    rows = torch.tensor([[-500.0, -1.0, 0.3, 7.0], [-0.2, 0.1, 0.2, 0.3]])
    clip = fixed_point_range(layer, rows, torch.ones(4))
    assert clip.shape == (1, 2, 1, 1)
    assert 7 <= clip[0, 0, 0, 0] < 40
    assert 0.2 < clip[0, 1, 0, 0] <= 0.3


def test_steps_of_channels_are_traded_for_those_of_weights():
    conv = QuantConv2d(2, 3, 1, act_grid='asymmetric', act_per_channel=True)
    rows = torch.stack([torch.linspace(0, 1, 99), torch.linspace(0, 64, 99)])
    # Equal weights: the large channel is all that matters.
    nn.init.ones_(conv.weight)
    clip, zero = balanced_range(conv, rows, torch.ones(99))
    assert zero.flatten().tolist() == [0, 0]
    assert clip.flatten()[1] == pytest.approx(64, rel=0.1)
    # Both channels matter as much: so do their steps.
    with torch.no_grad():
        conv.weight[:, 0] *= 64
    clip, _ = balanced_range(conv, rows, torch.ones(99))
    small, large = clip.flatten().tolist()
    assert small < large / 8


@pytest.mark.parametrize('top', [0.0, 1e-3, 0.05, 0.2])
def test_channels_that_are_never_far_above_0(top):
    conv = QuantConv2d(3, 3, 1, act_grid='asymmetric', act_per_channel=True)
    rows = torch.stack(
        [torch.linspace(-end, top, 99) for end in (10.0, 1.0, 0.7)]
    )
    for weights in (1.0, torch.tensor([1e-3, 1.0, 1.0]).view(1, 3, 1, 1)):
        with torch.no_grad():
            conv.weight.copy_(torch.ones(3, 3, 1, 1) * weights)
        found = balanced_range(conv, rows, torch.ones(99))
        clip, zero = (x.view(3, 1) for x in found)
        error = fake_quantize(rows, clip, GRID, zero) - rows
        # A step of the widest channel.
        assert error.abs().max() < 0.04
        assert (zero <= GRID.hi - 1).all()


def test_values_that_are_not_finite_are_refused():
    quantizer = TensorQuantizer(GRID, asymmetric=True)
    with pytest.raises(UserError, match='not finite'):
        start_inputs(quantizer, torch.tensor([[torch.inf]]), torch.ones(1))


def test_ranges_of_channels_that_hardly_say_anything():
    layer = FixedPointActivation(nn.SiLU(), 12)
    rows = torch.tensor([[9.5e-7, -9.5e-7], [1e-9, 0.0], [1.0, -1.0]])
    clip = fixed_point_range(layer, rows, torch.ones(2)).flatten()
    # The least that there is.
    assert (clip[:2] >= 2.0**-20).all() and (clip[:2] < 1.1e-6).all()
    assert 0.5 < clip[2] <= 1
