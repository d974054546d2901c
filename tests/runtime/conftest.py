"""Fixtures: programs in C around the engine, and images that are read."""

import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from aqd_mmdet.runtime.images import read_image
from tests.native import built


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


@pytest.fixture(scope='session')
def replay_program(tmp_path_factory) -> Path:
    """A program in C that loads and runs files, built with sanitizers."""
    flags = ('-fsanitize=address,undefined', '-fno-sanitize-recover=all')
    return built(tmp_path_factory.mktemp('replay'), 'replay.c', flags)


@pytest.fixture(scope='session')
def threads_program(tmp_path_factory) -> Path:
    """A program in C whose threads use one model, built with
    ThreadSanitizer."""
    folder = tmp_path_factory.mktemp('threads')
    return built(folder, 'threads.c', ('-fsanitize=thread',))


@pytest.fixture
def read(tmp_path):
    """Reads an image that is given as bytes."""

    def from_bytes(content: bytes, oriented: bool = True) -> np.ndarray:
        (tmp_path / 'image').write_bytes(content)
        return read_image(tmp_path / 'image', oriented)

    return from_bytes
