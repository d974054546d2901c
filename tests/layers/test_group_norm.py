"""Group norms in float simulation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantGroupNorm


def test_it_is_the_norm_of_rounded_values():
    norm = QuantGroupNorm(2, 4, bits=8)
    norm.input_quantizer.start(torch.tensor(127.0))  # a step of 1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = 30 * torch.randn(2, 4, 5, 6)
    codes = torch.floor(x + 0.5)
    expected = F.group_norm(codes, 2, norm.weight, norm.bias, norm.eps)
    assert torch.allclose(norm(x), expected, atol=1e-5)


def test_values_beyond_eight_deviations_are_cut_off():
    norm = QuantGroupNorm(1, 1)
    norm.input_quantizer.start(torch.tensor(127.0))
    x = torch.zeros(1, 1, 20, 20)
    x[0, 0, 0, 0] = 100
    assert norm(x).max().item() == pytest.approx(32767 / 4096)


def test_parameters_keep_their_names():
    float_norm = nn.GroupNorm(2, 4)
    norm = QuantGroupNorm(2, 4)
    missing, unexpected = norm.load_state_dict(float_norm.state_dict(), False)
    assert not unexpected
    assert all(name.startswith('input_quantizer.') for name in missing)


def test_codes_that_squares_would_not_fit():
    with pytest.raises(UserError, match='codes up to 32768, found 65535'):
        QuantGroupNorm(2, 4, bits=16, grid='unsigned')


def test_grids_with_gaps_are_refused():
    with pytest.raises(UserError, match="the grid 'odd' has"):
        QuantGroupNorm(1, 2, grid='odd')
