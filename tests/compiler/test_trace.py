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


def test_numbers_that_depend_on_the_size_are_refused(build):
    model = build(2)
    stride = model.data_preprocessor.pad_size_divisor
    extract_feat = model.extract_feat

    def of_even_sides(x):
        even = x.shape[2] // stride % 2 == 0
        return extract_feat(-x if even else x)

    model.extract_feat = of_even_sides
    with pytest.raises(UserError, match=r'other numbers .*pad_size_divisor'):
        trace(model)


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
