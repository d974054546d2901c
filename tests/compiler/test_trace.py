"""Capturing a network."""

import pytest
from torch import nn

from aqd_mmdet.compiler.trace import need_compilable, trace
from aqd_mmdet.errors import UserError


def test_tracing_leaves_the_detector_as_it_was(build):
    model = build(2).train()
    before = model.bbox_head.retina_cls.forward
    trace(model)
    assert model.training
    assert model.bbox_head.retina_cls.forward == before


class Branch(nn.Module):
    def forward(self, maps):
        return [x * 2 if x.mean() > 0 else x for x in maps]


def test_branches_on_values_are_told_in_one_line(build, capfd):
    model = build(2)
    neck = model.neck.forward
    model.neck.forward = lambda maps: Branch()(neck(maps))
    capfd.readouterr()
    with pytest.raises(UserError, match='another branch for other values'):
        trace(model)
    assert capfd.readouterr().err == ''


class TOODHead(nn.Module):
    pass


class OfAnotherPackage(TOODHead):
    pass


@pytest.mark.parametrize(
    'layer, message',
    [
        (nn.LayerNorm(3), 'backbone.extra: LayerNorm is part of a transf'),
        (OfAnotherPackage(), 'OfAnotherPackage moves its boxes between'),
    ],
)
def test_layers_without_integers_are_named(build, layer, message):
    model = build(2)
    need_compilable(model)
    model.backbone.extra = layer
    with pytest.raises(UserError, match=message):
        need_compilable(model)
    del model.backbone.extra, model.bbox_head
    with pytest.raises(UserError, match='neither a dense head'):
        need_compilable(model)
