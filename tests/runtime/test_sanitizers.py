"""Files that are whole, extreme and damaged, under sanitizers."""

from dataclasses import replace
from itertools import product

import pytest

from aqd_mmdet.program import file
from aqd_mmdet.program.detector import (
    Anchors,
    Sigmoid,
)
from tests import kernels
from tests.damage import EXAMPLES, changed_files, mutated
from tests.factories import compile_narrow, detector
from tests.random_detectors import DECODERS, SCORES, random_detector


@pytest.mark.parametrize('isa', kernels.names())
def test_sanitizers_find_nothing(replay, isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    small = file.to_bytes(detector())
    program = compile_narrow(18, 2).folded.program
    whole = file.to_bytes(replace(detector(), program=program))
    contents = [small, whole]
    contents += [mutated(small, seed) for seed in range(1500)]
    contents += [mutated(whole, seed) for seed in range(40)]
    loaded, ran, detected = replay(contents)
    assert 1 <= detected <= ran <= loaded < len(contents)


def test_sanitizers_find_nothing_in_detection(replay):
    contents = [file.to_bytes(example) for example in EXAMPLES]
    # Numbers at the ends of their ranges.
    contents += [
        file.to_bytes(random_detector(seed, *pair, wild=True))
        for seed in range(8)
        for pair in product(DECODERS, SCORES)
    ]
    contents += [
        file.to_bytes(random_detector(seed, Anchors, Sigmoid, 2, True))
        for seed in range(40)
    ]
    contents += changed_files(1200)
    loaded, _, detected = replay(contents)
    assert 280 < detected < loaded < len(contents)
