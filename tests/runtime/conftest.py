"""Fixtures: programs in C around the engine."""

import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.factories import ROOT

CSRC = ROOT / 'aqd_mmdet/runtime/csrc'
# Compilers with what they check.
ENGINE = ('g++', '-std=c++17', '-fno-exceptions', '-fno-rtti')
PROGRAM = ('gcc', '-std=c99', '-Wall', '-Wextra', '-Werror')


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


def built(folder: Path, name: str, flags: tuple[str, ...]) -> Path:
    """Build a program in C of this folder with the engine."""
    flags = (*flags, '-g', '-pthread')
    program = Path(__file__).parent / name
    objects = [
        *compiled(folder, ENGINE, sorted(CSRC.glob('**/*.cpp')), flags),
        *compiled(folder, PROGRAM, [program], flags),
    ]
    made = folder / program.stem
    subprocess.run(['g++', *flags, *objects, '-o', made], check=True)
    return made


def compiled(
    folder: Path,
    compiler: tuple[str, ...],
    sources: list[Path],
    flags: tuple[str, ...],
) -> list[Path]:
    """Compile sources, as many at a time as there are processors."""
    command = [*compiler, '-O1', f'-I{CSRC}', f'-I{CSRC}/include', *flags]
    objects = [folder / f'{source.name}.o' for source in sources]
    commands = [
        [*command, '-c', source, '-o', made]
        for source, made in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(subprocess.run, check=True), commands))
    return objects
