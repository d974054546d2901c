import pytest
import torch

from aqd_mmdet.errors import UserError
from aqd_mmdet.quantizers.grid import build_grid, weight_grid
from aqd_mmdet.quantizers.start import (
    lsq_clip,
    mse_clip,
    paper_clip,
    sample,
    start_clip,
)


def error(x, clip, grid):
    from aqd_mmdet.quantizers.fake_quantize import fake_quantize

    return (
        (fake_quantize(x, torch.as_tensor(clip), grid) - x)
        .square()
        .mean()
        .item()
    )


def test_mse_clip_of_a_gaussian_is_the_known_optimum():
    # The best uniform 4-level quantiser of a normal distribution has steps of
    # 0.9957 deviations (Max, 1960): outermost level at 1.494.
    x = torch.randn(2**14)
    assert mse_clip(x, weight_grid(2)).item() == pytest.approx(1.494, abs=0.08)


@pytest.mark.parametrize('bits', [2, 4, 8])
def test_mse_clip_beats_its_neighbours(bits):
    x = torch.randn(5000).relu()
    grid = build_grid('unsigned', bits)
    clip = mse_clip(x, grid).item()
    best = error(x, clip, grid)
    assert best <= error(x, clip * 0.8, grid)
    assert best <= error(x, clip * 1.25, grid)


@pytest.mark.parametrize(
    'shape', [(8, 32, 320, 320), (8, 128, 80, 80), (2, 64, 200, 336)]
)
def test_the_sample_is_of_all_columns(shape):
    height, width = shape[2:]
    places = sample(torch.Size(shape).numel())
    columns, rows = places % width, places // width % height
    # About MAX_SAMPLES / width in each.
    assert columns.unique().numel() == width
    assert rows.unique().numel() == height
    assert torch.equal(places, sample(torch.Size(shape).numel()))


def test_a_border_does_not_pass_for_the_map():
    x = torch.rand(4, 16, 128, 128)
    x[..., 0] = 0.1
    inner = mse_clip(x[..., 1:], build_grid('unsigned', 2)).item()
    found = mse_clip(x, build_grid('unsigned', 2)).item()
    assert found == pytest.approx(inner, rel=0.05)


def test_mse_clip_of_zeros_is_finite():
    assert mse_clip(torch.zeros(9), weight_grid(2)).item() == 0


def test_published_start():
    x = torch.tensor([-5.0, 2.0])
    assert paper_clip(x, weight_grid(2), True).item() == 1.0
    assert paper_clip(x, weight_grid(2), False).item() == 4.0


@pytest.mark.parametrize(
    'grid, clip',
    [
        (build_grid('unsigned', 2), 3.4641016),  # 1 / sqrt(3) * 2 * 3
        (weight_grid(8), 22.538855),  # 1 / sqrt(127) * 2 * 127
        (weight_grid(2), 2.4494898),  # 1 / sqrt(1.5) * 2 * 1.5
    ],
)
def test_the_start_of_lsq(grid, clip):
    x = torch.tensor([-2.0, 0.0, 1.0, 1.0])
    assert lsq_clip(x, grid).item() == pytest.approx(clip, rel=1e-6)


def test_unknown_start():
    with pytest.raises(UserError, match='nearest: .*paper'):
        start_clip('papre')
