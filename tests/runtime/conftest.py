"""Fixtures: programs in C around the engine."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

CSRC = ROOT / 'aqd_mmdet/runtime/csrc'


@pytest.fixture(scope='session')
def replay(tmp_path_factory) -> Path:
    """A program in C that loads and runs files, built with sanitizers."""
    folder = tmp_path_factory.mktemp('replay')
    flags = ['-g', '-O1', '-fsanitize=address,undefined', f'-I{CSRC}/include']
    flags += ['-fno-sanitize-recover=all', '-pthread']
    source = folder / 'replay.o'
    subprocess.run(
        [
            *('gcc', '-std=c99', '-Wall', '-Wextra', '-Werror', *flags, '-c'),
            *(Path(__file__).parent / 'replay.c', '-o', source),
        ],
        check=True,
    )
    subprocess.run(
        [
            *('g++', '-std=c++17', '-fno-exceptions', '-fno-rtti', *flags),
            *sorted(CSRC.glob('*.cpp')),
            *(source, '-o', folder / 'replay'),
        ],
        check=True,
    )
    return folder / 'replay'
