from copy import deepcopy

import pytest
import torch
from mmcv.cnn import ConvModule, build_norm_layer
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import MultiLevelBN, tag_levels, track_levels

CFG = dict(type='aqd_mmdet.MultiLevelBN', num_levels=3)


class Head(nn.Module):
    """A tower of two shared convolutions, called once per level."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            *[ConvModule(4, 4, 3, padding=1, norm_cfg=CFG) for _ in range(2)]
        )

    def forward(self, features):
        return [self.tower(x) for x in features]


class ByLayer(Head):
    """The same, but layer by layer over all levels."""

    def forward(self, features):
        for module in self.tower:
            features = [module(x) for x in features]
        return features


def features():
    return [torch.randn(2, 4, s, s) for s in (8, 4, 2)]


def used(head: nn.Module) -> list[list[int]]:
    """Return how often each level's norms were run in training."""
    return [
        [int(n.num_batches_tracked) for n in m.bn.norms] for m in head.tower
    ]


def test_mmcv_builds_it_under_the_name_of_a_bn():
    name, norm = build_norm_layer(CFG, 8)
    assert name == 'bn'
    assert len(norm.norms) == 3


@pytest.mark.parametrize(
    'norm_cfg',
    [
        dict(type='BN', momentum=0.03),
        dict(type='GN', num_groups=2),
        dict(type='SyncBN'),
    ],
)
def test_any_norm_inside(norm_cfg):
    norm = MultiLevelBN(4, num_levels=2, norm_cfg=norm_cfg, eps=1e-3)
    assert all(n.eps == 1e-3 for n in norm.norms)


@pytest.mark.parametrize('cls', [Head, ByLayer])
def test_each_level_has_its_norm(cls):
    head = cls()
    track_levels(None, [head])
    head(features())
    assert used(head) == [[1, 1, 1], [1, 1, 1]]


def test_fewer_levels():
    head = Head()
    track_levels(None, [head])
    head(features()[:2])
    assert used(head) == [[1, 1, 0], [1, 1, 0]]


def test_levels_are_known_by_identity_not_by_order():
    pyramid, head = nn.Identity(), Head()
    track_levels(pyramid, [head])
    levels = pyramid(tuple(features()))
    head(list(levels)[:0:-1])  # the coarsest first, the finest left out
    assert used(head) == [[0, 1, 1], [0, 1, 1]]


def test_deepcopy_tracks_its_own_levels():
    head = Head()
    track_levels(None, [head])
    copy = deepcopy(head)
    copy(features())
    assert used(head) == [[0, 0, 0], [0, 0, 0]]
    assert used(copy) == [[1, 1, 1], [1, 1, 1]]


def test_checkpointing_uses_the_same_norms():
    from torch.utils.checkpoint import checkpoint

    head = Head().eval()
    track_levels(None, [head])
    for level, norm in enumerate(head.tower[0].bn.norms):
        nn.init.constant_(norm.bias, float(level))
    xs = [x.requires_grad_() for x in features()]
    tag_levels(xs)
    plain = [head.tower[0](x) for x in xs]
    again = [checkpoint(head.tower[0], x, use_reentrant=False) for x in xs]
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)
    sum(x.sum() for x in again).backward()


def test_unknown_level_is_an_error_not_a_guess():
    head = Head()
    with pytest.raises(UserError, match='unknown pyramid level'):
        head(features())


def test_too_many_levels():
    head = Head()
    track_levels(None, [head])
    with pytest.raises(UserError, match='num_levels=4'):
        head([*features(), torch.randn(2, 4, 2, 2)])


def test_shared_checkpoint_loads_into_each_level():
    shared = nn.BatchNorm2d(4)
    nn.init.uniform_(shared.weight)
    norm = MultiLevelBN(4, num_levels=3)
    norm.load_state_dict(shared.state_dict())
    for level in norm.norms:
        assert torch.equal(level.weight, shared.weight)
    other = MultiLevelBN(4, num_levels=3)
    other.load_state_dict(norm.state_dict())


@pytest.mark.parametrize('levels', [0, -1, '5', 2.0])
def test_impossible_levels(levels):
    with pytest.raises(UserError, match='num_levels'):
        MultiLevelBN(4, num_levels=levels)
