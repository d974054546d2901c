"""Capturing a network."""

import pytest
import torch
from torch import nn

from aqd_mmdet.compiler.graph import layer_call
from aqd_mmdet.compiler.trace import need_compilable, trace
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantAdd, QuantMultiply


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


@pytest.mark.parametrize(
    'kind, empty, target',
    [
        (QuantAdd, 0, torch.ops.aten.add.Tensor),
        (QuantMultiply, 1, torch.ops.aten.mul.Tensor),
    ],
)
def test_sums_and_products_that_begin_with_a_number(
    build, kind, empty, target
):
    model = build(2)
    model.neck.loop = kind()
    neck = model.neck.forward

    def in_a_loop(maps):
        results = []
        for x in neck(maps):
            y = empty
            for operand in (x, x):
                y = model.neck.loop(y, operand)
            results.append(y)
        return tuple(results)

    model.neck.forward = in_a_loop
    calls = [
        call
        for call in map(layer_call, trace(model).module.graph.nodes)
        if call is not None and call.name == 'neck.loop'
    ]
    assert len(calls) == 4
    for call in calls:
        first, second = call.inputs
        assert first.target is target
        assert first.args == (second, empty)


@pytest.mark.parametrize('nothing', [None, [None] * 4])
def test_outputs_at_the_end_that_are_none_are_left_out(build, nothing):
    model = build(2)
    forward = model.bbox_head.forward
    model.bbox_head.forward = lambda maps: (*forward(maps), nothing)
    assert len(trace(model).outputs) == 2


@pytest.mark.parametrize('number', [0, 1])
def test_other_outputs_that_are_none_are_refused(build, number):
    model = build(2)
    forward = model.bbox_head.forward

    def with_none(maps):
        results = list(forward(maps))
        results.insert(number, [None] * 4)
        return tuple(results)

    model.bbox_head.forward = with_none
    with pytest.raises(UserError, match=f'output {number} of its head'):
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
