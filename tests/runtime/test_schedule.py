"""Random programs: operators that run together give what each gives alone."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from aqd_mmdet.program import file
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.engine import Engine
from tests import kernels
from tests.factories import detector
from tests.random_programs import RandomProgram


class Case(NamedTuple):
    """A detector of a random program, and what the reference makes of an
    image: (2, 3, H, W)."""

    detector: CompiledDetector
    pixels: np.ndarray
    expected: dict[str, np.ndarray]


@pytest.fixture(scope='module')
def cases() -> list[Case]:
    cases = []
    for seed in range(60):
        program = RandomProgram(seed).program()
        rng = np.random.default_rng(seed)
        height, width = rng.integers(1, 12, 2) * 8
        pixels = rng.integers(0, 256, (2, 3, height, width), np.uint8)
        expected = reference.run(program, pixels)
        cases.append(
            Case(replace(detector(), program=program), pixels, expected)
        )
    return cases


@pytest.mark.parametrize('isa', ['portable', 'avx2', 'avx512', 'amx', 'neon'])
def test_together_and_alone(cases, isa, monkeypatch):
    if isa not in kernels.names():
        pytest.skip(f'this machine has no {isa}')
    monkeypatch.setenv('AQD_ISA', isa)
    for seed, case in enumerate(cases):
        content = file.to_bytes(case.detector)
        engine = Engine(case.detector, content, 2)
        found = engine.run(case.detector.program, case.pixels)
        for name, values in case.expected.items():
            assert np.array_equal(found[name], values), (seed, name)
