"""Fixtures: programs in C around the engine."""

import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ROOT

CSRC = ROOT / 'aqd_mmdet/runtime/csrc'


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
    folder = tmp_path_factory.mktemp('replay')
    flags = ['-g', '-O1', '-fsanitize=address,undefined', f'-I{CSRC}/include']
    flags += ['-fno-sanitize-recover=all', '-pthread']
    program = Path(__file__).parent / 'replay.c'
    plain = ['gcc', '-std=c99', '-Wall', '-Wextra', '-Werror']
    engine = ['g++', '-std=c++17', '-fno-exceptions', '-fno-rtti']
    commands = [
        [*compiler, *flags, '-c', source, '-o', folder / f'{source.name}.o']
        for compiler, sources in [
            (plain, [program]),
            (engine, sorted(CSRC.glob('*.cpp'))),
        ]
        for source in sources
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(subprocess.run, check=True), commands))
    objects = sorted(folder.glob('*.o'))
    link = ['g++', *flags, *objects, '-o', folder / 'replay']
    subprocess.run(link, check=True)
    return folder / 'replay'
