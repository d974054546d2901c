"""What a compiled detector says of its parts."""

from aqd_mmdet.program.detector import Anchors, Sigmoid
from tests.factories import detector
from tests.random_detectors import random_detector


def test_programs_are_those_of_all_stages():
    whole = detector()
    assert whole.programs == (whole.program,)
    staged = random_detector(0, Anchors, Sigmoid, stages=2)
    first, second = staged.regions.stages
    assert staged.programs == (staged.program, first.program, second.program)
