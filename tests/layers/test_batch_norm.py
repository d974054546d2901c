from copy import deepcopy

import pytest
import torch
from torch import nn

from aqd_mmdet.layers.batch_norm import guard_batch_norms


def guarded() -> nn.Module:
    model = nn.Sequential(nn.BatchNorm2d(3))
    nn.init.uniform_(model[0].running_mean)
    nn.init.uniform_(model[0].running_var, 0.5, 2)
    guard_batch_norms(model)
    return model.train()


def test_one_value_takes_the_running_statistics():
    model = guarded()
    x = torch.randn(1, 3, 1, 1)
    with pytest.raises(ValueError, match='more than 1 value'):
        nn.BatchNorm2d(3)(x)
    before = deepcopy(model.state_dict())
    found = model(x)
    assert model[0].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(found, model.eval()(x))


def test_two_values_are_as_ever():
    model, plain = guarded(), nn.BatchNorm2d(3)
    plain.load_state_dict(model[0].state_dict())
    x = torch.randn(2, 3, 1, 1)
    assert torch.equal(model(x), plain(x))
    assert model[0].num_batches_tracked == 1


def test_it_is_told_once(logged):
    model = guarded()
    for _ in range(3):
        model(torch.randn(1, 3, 1, 1))
    assert len(logged) == 1
    assert 'one value per channel' in logged[0]


def test_copies_are_guarded():
    model = deepcopy(guarded())
    model(torch.randn(1, 3, 1, 1))
    assert model[0].training
