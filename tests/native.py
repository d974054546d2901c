"""Programs in C around the engine, and how they are built."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.factories import ROOT

CSRC = ROOT / 'aqd_mmdet/runtime/csrc'
# Compilers with what they check.
ENGINE = ('g++', '-std=c++17', '-fno-exceptions', '-fno-rtti')
PROGRAM = ('gcc', '-std=c99', '-Wall', '-Wextra', '-Werror')


def build_program(folder: Path, name: str, flags: tuple[str, ...]) -> Path:
    """Build a program in C of tests/runtime with the engine."""
    # Reports name lines. To name variables as well would take a third longer.
    flags = (*flags, '-O1', '-g1', '-pthread')
    source = ROOT / 'tests/runtime' / name
    objects = [
        *compile_sources(folder, ENGINE, engine_sources(), flags),
        *compile_sources(folder, PROGRAM, [source], flags),
    ]
    program = folder / source.stem
    subprocess.run(['g++', *flags, *objects, '-o', program], check=True)
    return program


def engine_sources() -> list[Path]:
    return sorted(CSRC.glob('**/*.cpp'))


def compile_sources(
    folder: Path,
    compiler: tuple[str, ...],
    sources: list[Path],
    flags: tuple[str, ...],
) -> list[Path]:
    """Compile sources, as many at a time as there are processors.

    Returns:
        The object of each.
    """
    command = [*compiler, f'-I{CSRC}', f'-I{CSRC}/include', *flags]
    objects = [folder / f'{source.name}.o' for source in sources]
    commands = [
        [*command, '-c', source, '-o', target]
        for source, target in zip(sources, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(subprocess.run, check=True), commands))
    return objects
