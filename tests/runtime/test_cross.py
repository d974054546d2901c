"""The engine on other machines, by emulators, equal to the reference.

What they need is installed by ``tools/setup_cross.sh``.
"""

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch

from aqd_mmdet.export import c_header
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    Anchors,
    CompiledDetector,
    Sigmoid,
    Softmax,
)
from aqd_mmdet.runtime import Detector, reference
from tests import wheels
from tests.factories import ROOT, detector, narrow_program
from tests.native import compile_sources, engine_sources
from tests.operators import square_windows, two_stage, wide_convolution
from tests.random_detectors import DECODERS, SCORES, random_detector
from tests.roundings import lookup_between, requantisation

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# Of detectors with a second stage.
PROPOSALS = ((Anchors, Sigmoid), (Anchors, Softmax))
# Bytes of a file, program, count, height, width, bytes of an input.
JOB = struct.Struct('<6i')
SHAPE = struct.Struct('<3i')
# A C++ library without threads: its headers serve any machine.
LIBCXX = max(
    map(str, Path('/usr/lib').glob('llvm-*/include/wasm32-wasi/c++/v1')),
    default='/usr/include/wasm32-wasi/c++/v1',
)
LIBC = '/usr/include/wasm32-wasi'
# The flag is for Node before 20.
NODE = ('node', '--no-warnings', '--experimental-wasi-unstable-preview1')


# Random operators by their seed, with what they are given.
Make = Callable[[int], tuple[ir.Program, np.ndarray]]
MAKERS: tuple[Make, ...] = (
    wide_convolution,
    square_windows,
    requantisation,
    lookup_between,
)


class Build(NamedTuple):
    """How to build tests/runtime/cross.c and the engine for a machine.

    The engine is built from its sources, or is the one in the wheel for a
    platform.
    """

    c: str
    cpp: str
    flags: tuple[str, ...]
    needs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    platform: str | None = None


ARM = Build(
    'aarch64-linux-gnu-gcc', 'aarch64-linux-gnu-g++', ('-Wl,-rpath,$ORIGIN',),
    ('llvm-readobj',), platform='manylinux_2_27_aarch64',
)  # fmt: skip
# The macro's absence brings read and write, by their names elsewhere.
WINDOWS = Build(
    'x86_64-w64-mingw32-gcc-posix', 'x86_64-w64-mingw32-g++-posix',
    ('-static', '-U__STRICT_ANSI__'), ('llvm-readobj',), platform='win_amd64',
)  # fmt: skip
WASM = Build(
    'clang', 'clang++', ('--target=wasm32-wasi', '-msimd128'),
    ('wasm-ld', LIBC, LIBCXX),
)  # fmt: skip
# Integers alone, and neither a C library nor the compiler's own: bare.cpp
# stands for them. The macros say that nothing of the C++ library is compiled
# beforehand, and that there are no clocks.
RISCV = Build(
    'clang', 'clang++',
    (
        *('--target=riscv64-unknown-elf', '-march=rv64imac', '-mabi=lp64'),
        *('-mcmodel=medany', '-nostdlib', '-fuse-ld=lld'),
        *('-isystem', LIBCXX, '-isystem', LIBC, '-D__wasi_api_h'),
        '-D_LIBCPP_DISABLE_EXTERN_TEMPLATE',
        '-D_LIBCPP_ABI_DO_NOT_EXPORT_VECTOR_BASE_COMMON',
        '-D_LIBCPP_ABI_DO_NOT_EXPORT_BASIC_STRING_COMMON',
        '-D_LIBCPP_HAS_NO_LIBRARY_ALIGNED_ALLOCATION',
    ),
    ('ld.lld', LIBC, LIBCXX), (str(HERE / 'bare.cpp'),),
)  # fmt: skip


# Debian has it in no folder of commands, without its package for all users.
WINE = shutil.which('wine64') or '/usr/lib/wine/wine64'
# Where libraries for ARM are.
QEMU = ('qemu-aarch64', '-L', '/usr/aarch64-linux-gnu')


class Target(NamedTuple):
    """A machine's build, what runs it there, and by which kernels."""

    build: Build
    runner: tuple[str, ...]
    kernels: str | None = None


TARGETS = {
    'arm': Target(ARM, (*QEMU, '-cpu', 'max'), 'neon'),
    # Of 2012, without products of bytes.
    'old-arm': Target(ARM, (*QEMU, '-cpu', 'cortex-a53')),
    # By the best kernels that this processor has.
    'windows': Target(WINDOWS, (WINE,)),
    'wasm': Target(WASM, (*NODE, str(HERE / 'wasi.mjs')), 'wasm'),
    'riscv': Target(RISCV, ('qemu-riscv64',)),
}


@contextmanager
def wine() -> Iterator[None]:
    """Give Wine a folder of its own, of 0.7 GB, and remove it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(
            os.environ,
            WINEPREFIX=folder,
            WINEDEBUG='-all',
            WINEDLLOVERRIDES='mscoree,mshtml=',
        ),
    ):
        yield
        server = Path(WINE).with_name('wineserver')
        subprocess.run([server, '--wait'], check=True)


@pytest.fixture(scope='module', params=TARGETS)
def target(request) -> Iterator[Target]:
    """A target whose tools are there."""
    found = TARGETS[request.param]
    build = found.build
    needs = (build.c, build.cpp, found.runner[0], *build.needs)
    missing = [
        need
        for need in needs
        if not (shutil.which(need) or Path(need).exists())
    ]
    if missing:
        pytest.skip(f'not here, see tools/setup_cross.sh: {missing}')
    with wine() if build is WINDOWS else nullcontext():
        yield found


@pytest.fixture(scope='module')
def linked(tmp_path_factory):
    """Builds a program in C with the engine for a machine, each once."""

    @cache
    def engine(build: Build) -> tuple[Path, ...]:
        folder = tmp_path_factory.mktemp('engine')
        if build.platform is not None:
            return (wheels.library(build.platform, folder),)
        compiler = (build.cpp, '-std=c++17', '-fno-exceptions', '-fno-rtti')
        sources = [*engine_sources(), *map(Path, build.sources)]
        flags = ('-O2', *build.flags)
        return tuple(compile_sources(folder, compiler, sources, flags))

    @cache
    def make(build: Build, source: Path, includes: tuple[Path, ...]) -> Path:
        folder = tmp_path_factory.mktemp('cross')
        compiler = (build.c, '-std=c99', '-Wall', '-Wextra', '-Werror')
        flags = ('-O2', *build.flags, *(f'-I{x}' for x in includes))
        # Linking has flags that compiling does not use.
        quiet = ('-Wno-unused-command-line-argument',) * (build.c == 'clang')
        objects = compile_sources(folder, (*compiler, *quiet), [source], flags)
        # With a suffix, as Windows has programs.
        program = folder / f'{source.stem}.exe'
        parts = engine(build)
        if build.platform is not None:  # loaded from the program's folder
            parts = (Path(shutil.copy(parts[0], folder)),)
        # Objects are before the library, whose functions they need.
        subprocess.run(
            [
                *(build.cpp, *build.flags, *objects, *parts),
                *('-o', program),
            ],
            check=True,
        )
        return program

    return make


@pytest.fixture(scope='module')
def built(linked):
    """Builds tests/runtime/cross.c for a machine."""
    return lambda build: linked(build, HERE / 'cross.c', ())


class Case(NamedTuple):
    """A program in a file, and what it is given: (N, C, H, W)."""

    content: bytes
    index: int
    program: ir.Program
    values: np.ndarray


def network(name: str, bits: int) -> Case:
    """A whole network on a small image."""
    program = narrow_program(bits, name)
    content = file.to_bytes(replace(detector(), program=program))
    values = torch.randint(0, 256, (1, 3, 64, 96)).to(torch.uint8).numpy()
    return Case(content, 0, program, values)


def operator(make: Make, seed: int) -> Case:
    """An operator and what may follow it, in a second stage."""
    program, values = make(seed)
    return Case(file.to_bytes(two_stage(program)), 1, program, values)


@cache
def cases() -> list[tuple[Case, dict[str, np.ndarray]]]:
    """Programs with what the reference makes of them."""
    networks = [('retinanet', 2), ('fcos', 3), ('retinanet', 4), ('fcos', 8)]
    programs = [network(*each) for each in networks]
    programs += [operator(make, seed) for make in MAKERS for seed in range(40)]
    return [
        (case, reference.run(case.program, case.values)) for case in programs
    ]


def packed(case: Case) -> bytes:
    """A case as cross.c reads it, with its channels innermost."""
    count, _, height, width = case.values.shape
    pixels = np.ascontiguousarray(case.values.transpose(0, 2, 3, 1)).tobytes()
    sizes = (len(case.content), case.index, count, height, width, len(pixels))
    return JOB.pack(*sizes) + case.content + pixels


def test_all_programs_are_the_references(target, built):
    environment = dict(os.environ, AQD_ISA=target.kernels or '')
    if target.kernels is None:
        del environment['AQD_ISA']
    result = subprocess.run(
        [*target.runner, built(target.build)],
        input=b''.join(packed(case) for case, _ in cases()),
        capture_output=True,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    at = 0
    for _, expected in cases():
        for values in expected.values():
            count, channels, height, width = values.shape
            shape = SHAPE.unpack_from(result.stdout, at)
            assert shape == (channels, height, width)
            found = np.frombuffer(
                result.stdout, '<i4', values.size, at + SHAPE.size
            ).reshape(count, height, width, channels)
            assert np.array_equal(found.transpose(0, 3, 1, 2), values)
            at += SHAPE.size + found.nbytes
    assert at == len(result.stdout)


def test_boxes_are_pythons(target, built):
    rng = np.random.default_rng(0)
    jobs, expected = [], []
    for seed, (decoder, scores) in enumerate(product(DECODERS, SCORES)):
        stages = 2 if (decoder, scores) in PROPOSALS else 0
        compiled = random_detector(seed, decoder, scores, stages, seed % 2 > 0)
        image = rng.choice([0, 99, 255], (20, 30, 3)).astype(np.uint8)
        content = file.to_bytes(compiled)
        sizes = (len(content), -1, 1, 20, 30, image.size)
        jobs.append(JOB.pack(*sizes) + content + image.tobytes())
        boxes, labels, found = Detector(compiled, run=reference.run)(image)
        values = np.column_stack([boxes, labels, found]).astype('<i4')
        expected.append(struct.pack('<i', len(values)) + values.tobytes())
    result = subprocess.run(
        [*target.runner, built(target.build)],
        input=b''.join(jobs),
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == b''.join(expected)


@pytest.fixture(scope='module')
def firmware(tmp_path_factory) -> tuple[CompiledDetector, Path]:
    """A detector, and the folder of its header."""
    folder = tmp_path_factory.mktemp('header')
    compiled = random_detector(0, Anchors, Sigmoid)
    (folder / 'model.h').write_bytes(c_header.export(compiled))
    return compiled, folder


def test_a_detector_inside_the_program(target, linked, firmware):
    """examples/firmware.c, and the picture that it draws."""
    compiled, folder = firmware
    program = linked(target.build, ROOT / 'examples/firmware.c', (folder,))
    result = subprocess.run(
        [*target.runner, program], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, '')
    y, x, channel = np.indices((96, 128, 3))
    image = (x * y + 60 * channel).astype(np.uint8)
    boxes, labels, scores = Detector(compiled, run=reference.run)(image)
    assert len(labels) > 5
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [compiled.labels[i] for i in labels]
    numbers = np.array([line[1:] for line in lines], np.int64)
    assert np.array_equal(numbers, np.column_stack([scores, boxes]))


@pytest.mark.parametrize('target', ['riscv'], indirect=True)
def test_nothing_is_a_float_without_a_unit_for_them(target, built):
    names = subprocess.run(
        ['readelf', '-sW', built(target.build)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert 'aqd_run' in names and 'aqd_detect' in names
    # __adddf3, __floatsidf, __fixdfdi, __ltsf2 ...
    assert not re.findall(r'\b__\w*[sdt]f\w*\b', names)


@pytest.mark.parametrize('target', ['windows'], indirect=True)
def test_vectors_are_stored_anywhere(target, built):
    """The stack of Windows is aligned to 16 bytes, and GCC thinks to more."""
    library = built(target.build).with_name('_engine.dll')
    text = subprocess.run(
        ['llvm-objdump', '--disassemble', '--no-show-raw-insn', library],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    moves = re.findall(r'\bv(mov\w+)\s(.*%[yz]mm.*)', text)
    names = {name for name, operands in moves if '(' in operands}
    assert {'movdqu', 'movups'} < names
    assert not [x for x in names if x.startswith(('movdqa', 'movap'))]
