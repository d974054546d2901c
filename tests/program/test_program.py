"""What is read off a program: sizes of its tensors, and its listing."""

from dataclasses import replace

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program.program import listing
from tests.factories import detector, narrow_program


def test_sizes_are_those_of_the_tensors():
    program = replace(narrow_program(), stride=1)
    sizes = program.sizes((37, 45))
    assert sizes['backbone.conv1'] == (19, 23)
    assert sizes['output0.0'] == (5, 6)
    assert sizes['output0.3'] == (1, 1)


@pytest.mark.parametrize('size', [(33, 33), (32, 33), (48, 64), (31, 32)])
def test_sides_that_are_no_multiples_of_the_stride_are_refused(size):
    program = replace(narrow_program(), stride=32)
    assert program.sizes((64, 32))['image'] == (64, 32)
    height, width = size
    with pytest.raises(
        UserError,
        match=rf'input: expected sides that are multiples of 32, the stride '
        rf'of the program, found {height} x {width}$',
    ):
        program.sizes(size)


def test_the_listing_has_a_line_for_each_operator():
    program = narrow_program()
    lines = list(listing(program))
    assert len(lines) == len(program.ops) + 2
    assert lines[1].startswith('backbone.conv1[8] ')
    assert '8 bits' in lines[1]


def test_readers_are_operators_and_none_for_what_leaves():
    program = detector().program
    image, *_ = program.ops
    readers = program.readers()
    assert readers['image'] == [image]
    assert readers[image.output] == [
        op for op in program.ops if image.output in op.inputs
    ]
    for name in program.output_names():
        assert readers[name][-1] is None
