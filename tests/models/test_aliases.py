"""Maps that are changed in place."""

import pytest
import torch
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.models.aliases import need_no_aliases


class Alias(nn.Module):
    """Keeps a map by another name before it is changed in place."""

    def __init__(self, is_kept: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.is_kept = is_kept

    def forward(self, images):
        first = images * self.scale
        outs = [first] if self.is_kept else []
        first += images
        return [*outs, first]

    extract_feat = forward


@pytest.mark.parametrize('is_kept', [True, False])
def test_maps_that_are_changed_by_another_name(is_kept):
    net = nn.Sequential(Alias(is_kept))
    net.extract_feat = lambda images: net[0](images)
    if not is_kept:
        need_no_aliases(net, {'0': net[0]})
        return
    with pytest.raises(UserError, match=r'^0 \(Alias\): its forward chang'):
        need_no_aliases(net, {'0': net[0]})
    need_no_aliases(net, {})
