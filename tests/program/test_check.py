"""Which detectors could not be run to their end, and what is said of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.check import check_detector
from aqd_mmdet.program.detector import CompiledDetector
from tests.factories import detector

Change = Callable[[CompiledDetector], CompiledDetector]


def with_op(position: int, **changes: object) -> Change:
    """Changes of an operator of the network."""

    def change(whole: CompiledDetector) -> CompiledDetector:
        ops = list(whole.program.ops)
        ops[position] = replace(ops[position], **changes)
        return replace(whole, program=replace(whole.program, ops=tuple(ops)))

    return change


def with_program(**changes: object) -> Change:
    return lambda whole: replace(
        whole, program=replace(whole.program, **changes)
    )


def with_preprocess(**changes: object) -> Change:
    return lambda whole: replace(
        whole, preprocess=replace(whole.preprocess, **changes)
    )


def test_a_good_detector_passes():
    check_detector(detector())


@pytest.mark.parametrize(
    'change, message',
    [
        (with_program(ops=()), 'the program: expected operators, found none'),
        (
            with_program(outputs=(ir.Output(('x',), 1.0),)),
            "outputs of the program: expected names of its tensors, found 'x'",
        ),
        (
            with_op(1, output='p'),
            "operator 1 (p).output: expected a new name, found 'p'",
        ),
        (
            with_op(2, inputs=('box',)),
            'operator 2 (b).inputs: expected what an earlier operator makes, '
            "found 'box'",
        ),
        (
            with_op(0, inputs=('c',)),
            "operator 0 (p).inputs: expected 'image', found 'c'",
        ),
        (
            with_op(3, inputs=('c', 'c')),
            'operator 3 (cls).inputs: expected 1 inputs, found 2',
        ),
        (
            with_op(3, grid=ir.Grid(1, 0)),
            'operator 3 (cls).grid: expected lo up to hi, found 1..0',
        ),
        (
            with_preprocess(short=200),
            'preprocess.short: expected at most preprocess.long, 160, found '
            '200',
        ),
        (
            with_preprocess(fill=(0,)),
            'preprocess.fill: expected 3 colours, found 1',
        ),
        (
            lambda whole: replace(whole, labels=()),
            'number of labels: expected 1 to ',
        ),
    ],
)
def test_the_first_mistake_is_named(change, message):
    with pytest.raises(UserError) as caught:
        check_detector(change(detector()))
    assert str(caught.value).startswith(message)


def test_areas_fit_63_bits():
    whole = detector()
    post = replace(whole.postprocess, margin=2**14)
    whole = replace(whole, postprocess=post)
    check_detector(with_preprocess(long=46340 - 2**15)(whole))
    with pytest.raises(UserError, match='expected at most 46340.*found 46341'):
        check_detector(with_preprocess(long=46341 - 2**15)(whole))
