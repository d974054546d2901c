"""Heads that do not fit their network, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.check_postprocess import (
    check_postprocess,
    check_regions,
)
from aqd_mmdet.program.detector import (
    AnchorLevel,
    Anchors,
    CompiledDetector,
    Curve,
    Sigmoid,
    Softmax,
)
from tests.factories import curve, detector, table
from tests.random_detectors import random_detector


def with_decoder(**changes: object) -> CompiledDetector:
    whole = detector()
    post = whole.postprocess
    decoder = replace(post.decoder, **changes)
    return replace(whole, postprocess=replace(post, decoder=decoder))


def with_scores(scores: object) -> CompiledDetector:
    whole = detector()
    return replace(
        whole, postprocess=replace(whole.postprocess, scores=scores)
    )


def anchors(*shape: int) -> AnchorLevel:
    return AnchorLevel((8, 8), np.zeros(shape, np.int32))


def test_a_good_head_passes():
    check_postprocess(detector())


@pytest.mark.parametrize(
    'whole, message',
    [
        (
            with_decoder(levels=()),
            'postprocess.decoder.levels: expected one level or more, found '
            'none',
        ),
        (
            with_decoder(levels=(anchors(1, 4),) * 2),
            'outputs of the program: expected 2 kinds of maps of 2 levels, '
            'found maps of [1, 1] levels',
        ),
        (
            with_decoder(levels=(anchors(1, 3),)),
            'anchors of level 0: expected int32 (A, 4), of at least one '
            'anchor, found int32 (1, 3)',
        ),
        (
            with_decoder(levels=(anchors(2, 4),)),
            'operator cls: expected 4 channels, 2 of each of 2 anchors or '
            'points, found 2',
        ),
        (
            replace(detector(), labels=('cat',)),
            'operator cls: expected 1 channels, 1 of each of 1 anchors or '
            'points, found 2',
        ),
        (
            with_decoder(limit=2**24),
            'postprocess.decoder.exp: expected arguments from -16777216 to '
            'above 16777216, found -16777216 to 16777216',
        ),
        (
            with_decoder(deltas=table(3)),
            'postprocess.decoder.deltas',
        ),
        (
            with_scores(Sigmoid(table(1), curve([0, 2**24 + 1, 0]))),
            'postprocess.scores.curve.table: expected values from 0 to '
            '16777216, found 0 to 16777217',
        ),
    ],
)
def test_the_first_mistake_is_named(whole, message):
    with pytest.raises(UserError) as caught:
        check_postprocess(whole)
    assert str(caught.value).startswith(message)


def test_shares_have_a_sum():
    whole = random_detector(0, Anchors, Softmax)
    check_postprocess(whole)
    post = whole.postprocess
    nothing = Curve(np.zeros(3, np.int32), -(2**20), 20)
    scores = replace(post.scores, exp=nothing)
    post = replace(post, scores=scores)
    with pytest.raises(UserError, match='expected a value above 0 at 0'):
        check_postprocess(replace(whole, postprocess=post))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(features=9), 'features: expected an index of the 3 outputs'),
        (dict(strides=()), 'strides: expected one of each of the '),
        (dict(finest=2**30), 'finest: expected less than '),
    ],
)
def test_stages_that_do_not_fit(changes, message):
    whole = random_detector(0, Anchors, Sigmoid, stages=1)
    check_regions(whole.regions, whole)
    stage = replace(whole.regions.stages[0], **changes)
    with pytest.raises(UserError) as caught:
        check_regions(replace(whole.regions, stages=(stage,)), whole)
    assert str(caught.value).startswith(f'regions.stages.0.{message}')


def test_logits_are_wide():
    whole = detector()
    ops = list(whole.program.ops)
    ops[3] = replace(ops[3], grid=ir.Grid(0, 255))
    program = replace(whole.program, ops=tuple(ops))
    with pytest.raises(UserError, match='operator cls: .*int32, found uint8'):
        check_postprocess(replace(whole, program=program))
