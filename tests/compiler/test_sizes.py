"""Whether a captured graph holds for images of all sizes."""

import logging

import pytest
import torch
from torch import nn

from aqd_mmdet.compiler import sizes
from aqd_mmdet.compiler.sizes import Call, differ, need_same_calls
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.errors import UserError


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


@pytest.mark.parametrize(
    'change',
    [
        lambda x, height, width: x if height < 200 else -x,
        lambda x, height, width: x * (2.0 if height > 4000 else 3.0),
        lambda x, height, width: x.roll(1 if height < width else 2, 3),
        lambda x, height, width: -x if height == width else x,
        lambda x, height, width: x if height == 256 else -x,
        lambda x, height, width: (
            x - x.flip(3) if height < 200 else x.flip(3) - x
        ),
        lambda x, height, width: x[..., : -1 if height < 200 else None],
    ],
)
def test_branches_on_sizes_are_refused(build, change):
    model = build(2)
    extract_feat = model.extract_feat
    model.extract_feat = lambda x: extract_feat(change(x, *x.shape[2:]))
    with pytest.raises(UserError, match='than for one of 256 x 384'):
        trace(model)


@pytest.mark.parametrize(
    'dropout',
    [
        nn.Dropout(0.1).eval(),
        nn.Dropout2d(0.1).eval(),
        lambda x: nn.functional.dropout(x, 0.5, training=False),
        lambda x: nn.functional.dropout(x, 0.5, False),
    ],
)
def test_dropout_that_does_nothing_is_no_step(build, dropout):
    model = build(2)
    neck = model.neck.forward
    model.neck.forward = lambda maps: neck([dropout(x) for x in maps])
    before = len(trace(build(2)).module.graph.nodes)
    assert len(trace(model).module.graph.nodes) == before + 4


def test_sizes_that_a_forward_does_not_take_are_left_out(build, monkeypatch):
    model = build(2)
    extract_feat = model.extract_feat

    def of_large_ones(x):
        model.calls.add_(1)
        if x.shape[2] < 200:
            torch.cat([x, x[:, :, 1:]], 1)
        return extract_feat(x)

    model.extract_feat = of_large_ones
    model.register_buffer('calls', torch.zeros(1))
    told: list[logging.LogRecord] = []
    monkeypatch.setattr(sizes._LOGGER, 'callHandlers', told.append)
    trace(model)
    assert not told
    assert model.calls == 0


def test_a_forward_that_takes_one_size_alone_is_refused(build):
    model = build(2)
    model.last = None

    def of_one_size(x):
        model.last = x
        assert x.shape[2] == 256

    with pytest.raises(UserError, match='of about 256 x 384 alone'):
        need_same_calls(model, of_one_size, [])
    assert model.last is None  # as before


def test_calls_differ_by_what_no_size_explains():
    symbolic = Call('pad', (object(), 1, 'zeros'))
    assert not differ(Call('pad', (7, 1, 'zeros')), symbolic)
    assert differ(Call('pad', (7, 2, 'zeros')), symbolic)
    assert differ(Call('pad', (7, 1, 'reflect')), symbolic)
    assert differ(Call('pad', (7, 1)), symbolic)
    assert differ(Call('roll', (7, 1, 'zeros')), symbolic)
    assert differ(None, symbolic) and differ(symbolic, None)
