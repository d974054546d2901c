"""Objects have their own attributes again afterwards."""

import pytest

from aqd_mmdet.patches import patched


class Thing:
    inherited = 'of the class'

    def __init__(self) -> None:
        self.own = 1


def test_attributes_are_exchanged_and_given_back():
    thing = Thing()
    with patched(thing, own=2, inherited='patched', other=3):
        assert (thing.own, thing.inherited, thing.other) == (2, 'patched', 3)
    assert vars(thing) == {'own': 1}
    assert thing.inherited == 'of the class'


def test_errors_end_it_as_well():
    thing = Thing()
    with pytest.raises(ValueError, match='inside'), patched(thing, own=2):
        raise ValueError('inside')
    assert thing.own == 1
