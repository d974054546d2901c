"""What is read off a program: sizes of its tensors, and its listing."""

from aqd_mmdet.program.program import listing
from tests.factories import narrow_program


def test_sizes_are_those_of_the_tensors():
    program = narrow_program()
    sizes = program.sizes((37, 45))
    assert sizes['backbone.conv1'] == (19, 23)
    assert sizes['output0.0'] == (5, 6)
    assert sizes['output0.3'] == (1, 1)


def test_the_listing_has_a_line_for_each_operator():
    program = narrow_program()
    lines = list(listing(program))
    assert len(lines) == len(program.ops) + 2
    assert lines[1].startswith('backbone.conv1[8] ')
    assert '8 bits' in lines[1]
