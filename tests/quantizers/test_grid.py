import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.quantizers.grid import (
    Grid,
    activation_grid,
    build_grid,
    check_bits,
    weight_grid,
)
from aqd_mmdet.registry import GRIDS


def test_codes_of_the_published_grids():
    assert list(build_grid('unsigned', 2).codes) == [0, 1, 2, 3]
    assert list(weight_grid(2).codes) == [-3, -1, 1, 3]
    assert list(weight_grid(3).codes) == [-7, -5, -3, -1, 1, 3, 5, 7]
    assert list(weight_grid(4).codes) == list(range(-15, 16, 2))
    assert build_grid('unsigned', 8).hi == 255


def test_eight_bit_weights_fit_int8_and_have_a_zero():
    grid = weight_grid(8)
    assert (grid.lo, grid.hi, grid.stride, grid.levels) == (-127, 127, 1, 255)


@pytest.mark.parametrize('bits', range(2, 8))
def test_levels(bits):
    assert weight_grid(bits).levels == 2**bits
    assert build_grid('unsigned', bits).levels == 2**bits
    assert build_grid('signed', bits).levels == 2**bits - 1


def test_leaky_grids_have_few_negative_codes():
    assert list(build_grid('leaky', 2).codes) == [-1, 0, 1, 2]
    assert list(build_grid('leaky', 3).codes) == list(range(-1, 7))
    assert list(build_grid('leaky', 4).codes) == list(range(-2, 14))
    # At 8 bits a code shall fit int8.
    assert list(build_grid('leaky', 8).codes) == list(range(-32, 128))


@pytest.mark.parametrize('bits', [0, 1, 9, 16, '2', 2.0, True, None])
def test_impossible_bits(bits):
    with pytest.raises(UserError, match='not a bit width'):
        check_bits(bits)


def test_wide_bits():
    assert check_bits(16, wide=True) == 16


def test_unknown_grid_names_the_nearest():
    with pytest.raises(UserError, match='nearest: unsigned'):
        build_grid('unsinged', 2)


def every_third(bits: int) -> Grid:
    return Grid(bits, 0, 3 * (2**bits - 1), stride=3)


def test_activations_have_all_codes_of_a_range(monkeypatch):
    monkeypatch.setitem(GRIDS.module_dict, 'thirds', every_third)
    for name in ('unsigned', 'signed', 'leaky'):
        assert activation_grid(name, 4) == build_grid(name, 4)
    for name, stride in (('odd', 2), ('thirds', 3)):
        with pytest.raises(
            UserError,
            match=rf"the grid '{name}' .* a distance of {stride}: .*'signed'",
        ):
            activation_grid(name, 4)
