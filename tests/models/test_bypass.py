import pytest
import torch
from torch import Tensor, nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.models.bypass import find_bypassed
from aqd_mmdet.models.quantized_detector import quantize_detector


class Owner(nn.Module):
    """Has a layer that it calls, one that it reads and one that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.Conv2d(4, 4, 1)
        self.read = nn.Conv2d(4, 4, 1)
        self.idle = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.called(x)
        return nn.functional.conv2d(x, 2 * self.read.weight)


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.owner = Owner()
        self.stem = nn.Conv2d(3, 4, 1)
        self.bbox_head = nn.Identity()

    def extract_feat(self, image: Tensor) -> Tensor:
        return self.owner(self.stem(image))


def test_only_what_is_read_and_not_called():
    model = Owner()
    with find_bypassed(dict(model.named_children())) as found:
        model(torch.rand(1, 4, 2, 2))
    assert found == {'read'}
    assert not model.called._forward_pre_hooks


def test_a_rule_for_it_is_refused():
    recipe = [dict(modules='*', conv=dict())]
    with pytest.raises(UserError, match=r'owner\.read is never called'):
        quantize_detector(Detector(), recipe, 4)
    model = Detector()
    recipe.append(dict(modules='owner.read', float=True))
    quantize_detector(model, recipe, 4)
    assert type(model.owner.read) is nn.Conv2d
