"""Files that are whole, extreme and damaged, under sanitizers."""

import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from aqd_mmdet.program import container, file
from aqd_mmdet.program.detector import (
    Anchors,
    Sigmoid,
)
from tests import kernels
from tests.damage import EXAMPLES, changed_files, mutated, sections
from tests.factories import detector, narrow_program
from tests.native import build_program
from tests.random_detectors import DECODERS, SCORES, random_detector
from tests.random_programs import RandomProgram

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def replay_program(tmp_path_factory) -> Path:
    """A program in C that loads and runs files."""
    flags = ('-fsanitize=address,undefined', '-fno-sanitize-recover=all')
    return build_program(tmp_path_factory.mktemp('replay'), 'replay.c', flags)


@pytest.fixture
def replay(replay_program, tmp_path) -> Callable[[Iterable[bytes]], list[int]]:
    """Says how many of some files can be loaded, run and detected with."""

    def run(contents: Iterable[bytes]) -> list[int]:
        corpus = tmp_path / 'corpus'
        # One file of all: a length before each.
        packed = (struct.pack('<Q', len(c)) + c for c in contents)
        corpus.write_bytes(b''.join(packed))
        result = subprocess.run(
            [replay_program, corpus], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr[-2000:]
        return [int(count) for count in result.stdout.split()]

    return run


@pytest.fixture(scope='module')
def damaged_networks() -> list[bytes]:
    """Two whole files, a small one and one of many operators, and changes of
    them."""
    small = file.to_bytes(detector())
    large = file.to_bytes(replace(detector(), program=narrow_program()))
    return [
        *(small, large),
        *(mutated(small, seed) for seed in range(1500)),
        *(mutated(large, seed) for seed in range(40)),
    ]


@pytest.mark.parametrize('isa', kernels.names())
def test_nothing_in_damaged_networks(
    replay, damaged_networks, isa, monkeypatch
):
    monkeypatch.setenv('AQD_ISA', isa)
    loaded, ran, detected = replay(damaged_networks)
    assert 1 <= detected <= ran <= loaded < len(damaged_networks)


def test_nothing_in_damaged_blocks(replay):
    """Texts whose compressed bytes were changed or cut off."""
    content = file.to_bytes(detector())
    at = container.HEADER.size + 2 * container.SECTION.size
    _, data = sections(content)
    block = content[at : len(content) - len(data)]
    rng = np.random.default_rng(0)
    contents = [content]
    for _ in range(1500):
        changed = bytearray(block[: rng.integers(len(block) + 1)])
        if changed and rng.random() < 0.8:
            changed[rng.integers(len(changed))] = rng.integers(256)
        contents.append(
            container.sealed(container.VERSION, bytes(changed), data)
        )
    assert 1 <= replay(contents)[0] < len(contents)


def test_nothing_in_random_programs(replay):
    """Memory and arithmetic of the kernels that this machine prefers."""
    programs = [RandomProgram(seed).program() for seed in range(40)]
    contents = [
        file.to_bytes(replace(detector(), program=each)) for each in programs
    ]
    assert replay(contents)[0] == len(programs)


def test_nothing_in_detection(replay):
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
