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


def built(folder: Path, name: str, flags: tuple[str, ...]) -> Path:
    """Build a program in C of tests/runtime with the engine."""
    flags = (*flags, '-g', '-pthread')
    program = ROOT / 'tests/runtime' / name
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
