"""The wheel aqd-mmdet-runtime: what is in it, what it asks for, what it
finds."""

import platform
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet import __version__
from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime import Detector, engine, example
from tests import wheels
from tests.factories import ROOT

pytestmark = pytest.mark.slow

PLATFORM = f'manylinux_2_27_{platform.machine()}'
TARGETS = wheels.module('targets').TARGETS
AUDIT = wheels.module('build_wheels').audit
MAX_BYTES = 3_000_000
EXAMPLE = example.MODEL.parent
HEADER = ROOT / 'aqd_mmdet/runtime/csrc/include/aqd.h'

if PLATFORM not in TARGETS:
    pytest.skip(f'there is no {PLATFORM}', allow_module_level=True)
for tool in ('llvm-readobj', TARGETS[PLATFORM].compiler):
    if shutil.which(tool) is None:
        pytest.skip(
            f'not here, see tools/setup_cross.sh: {tool}',
            allow_module_level=True,
        )


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    return wheels.build(PLATFORM, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel's files and numpy, and nothing else."""
    folder = tmp_path_factory.mktemp('site')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for entry in Path(np.__file__).parents[1].iterdir():
        if entry.name.lower().startswith('numpy'):
            (folder / entry.name).symlink_to(entry)
    return folder


def run(site: Path, *arguments: object) -> subprocess.CompletedProcess:
    # -S: without the environment's packages.
    return subprocess.run(
        [sys.executable, '-S', *map(str, arguments)],
        env={'PYTHONPATH': str(site)},
        cwd=site,
        capture_output=True,
        text=True,
    )


def test_the_files_are_the_checkouts(wheel):
    modules = [ROOT / f'aqd_mmdet/{x}.py' for x in (
        '__init__', 'errors', 'files', 'progress',
    )]  # fmt: skip
    for package in ('program', 'runtime', 'runtime/example'):
        modules += (ROOT / 'aqd_mmdet' / package).glob('*.py')
    data = [example.MODEL, example.PICTURE, EXAMPLE / 'README.md']
    wanted = {str(path.relative_to(ROOT)): path for path in modules + data}
    with zipfile.ZipFile(wheel) as archive:
        found = {x for x in archive.namelist() if x.startswith('aqd_mmdet/')}
        assert found == {*wanted, 'aqd_mmdet/runtime/_engine.so'}
        for name, path in wanted.items():
            assert archive.read(name) == path.read_bytes()


def test_it_is_small_and_of_any_python(wheel):
    assert wheel.stat().st_size < MAX_BYTES
    tags = f'py3-none-{PLATFORM}'
    assert wheel.name == f'aqd_mmdet_runtime-{__version__}-{tags}.whl'
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (
            archive.read(x).decode()
            for x in archive.namelist()
            if x.endswith('METADATA')
        )
    needed = re.findall(r'^Requires-Dist: (.*)$', metadata, re.MULTILINE)
    assert needed == [
        'numpy>=1.26',
        'numpy>=2; sys_platform == "win32"',
        'pillow>=11.3; extra == "images"',
        'pillow>=11.3; extra == "serve"',
        'uvicorn; extra == "serve"',
    ]


def made_for(name: str, folder: Path, *flags: str) -> Path:
    """A library for a platform that has the engine's functions by name."""
    target = TARGETS[name]
    if shutil.which(target.compiler) is None:
        pytest.skip(f'not here, see tools/setup_cross.sh: {target.compiler}')
    functions = re.findall(r'\b(aqd_\w+)\(', HEADER.read_text())
    mark = '__declspec(dllexport)' if target.suffix == '.dll' else ''
    source, library = folder / 'a.cpp', folder / f'a{target.suffix}'
    source.write_text(
        '#include <unistd.h>\n'
        '#include <pthread.h>\n'
        f'extern "C" {{{mark} int first() {{ return getpid(); }}\n'
        + ''.join(f'{mark} void {each}() {{}}\n' for each in functions)
        + '}\n'
    )
    subprocess.run(
        [target.compiler, '-shared', '-fPIC', source, '-o', library, *flags],
        check=True,
    )
    return library


@pytest.mark.parametrize('name', TARGETS)
def test_a_library_for_the_platform_passes(name, tmp_path):
    AUDIT(made_for(name, tmp_path), TARGETS[name])


@pytest.mark.parametrize('name', TARGETS)
def test_what_a_platform_lacks_is_refused(name, tmp_path):
    target = TARGETS[name]
    library = made_for(name, tmp_path)
    wants = [
        (replace(target, machine='EM_RISCV'), 'expected the machine'),
        (
            replace(target, libraries=frozenset({'nothing'})),
            'expected no library of others than',
        ),
    ]
    if target.versions:
        older = (('GLIBC', (2, 1)),)
        wants.append((replace(target, versions=older), 'expected no GLIBC_2'))
    for other, message in wants:
        with pytest.raises(UserError, match=message):
            AUDIT(library, other)


def test_a_folder_of_the_builder_is_refused(tmp_path):
    library = made_for(PLATFORM, tmp_path, '-Wl,-rpath,/opt/lib')
    with pytest.raises(UserError, match='expected no folder'):
        AUDIT(library, TARGETS[PLATFORM])


def test_a_function_that_is_missing_is_refused(tmp_path):
    source, library = tmp_path / 'a.cpp', tmp_path / 'a.so'
    source.write_text('extern "C" void aqd_run() {}')
    compiler = TARGETS[PLATFORM].compiler
    subprocess.run(
        [
            compiler,
            '-shared',
            '-fPIC',
            '-Wl,--no-as-needed',
            source,
            '-o',
            library,
        ],
        check=True,
    )
    with pytest.raises(UserError, match='expected also .*aqd_detect'):
        AUDIT(library, TARGETS[PLATFORM])


def test_mistakes_are_one_line(tmp_path):
    def mistake(path: str | None, *arguments: str) -> str:
        result = subprocess.run(
            [
                *(sys.executable, wheels.SOURCE / 'build_wheels.py'),
                *(*arguments, '--out', tmp_path / 'out'),
            ],
            env={'PYTHONPATH': str(ROOT)} | ({'PATH': path} if path else {}),
            capture_output=True,
            text=True,
        )
        assert (result.returncode, result.stdout) == (2, '')
        assert not (tmp_path / 'out').exists()
        return result.stderr

    known = ', '.join(TARGETS)
    assert mistake(None, 'win32') == (
        f'error: win32: expected one of {known}\n'
    )
    assert mistake(str(tmp_path)) == (
        'error: llvm-readobj is not installed: run tools/setup_cross.sh\n'
    )


def test_it_finds_the_same_with_numpy_alone(site, tmp_path):
    pixels = np.asarray(Image.open(example.PICTURE))
    np.save(tmp_path / 'pixels.npy', pixels)
    script = f"""
import sys
import numpy as np
from aqd_mmdet.runtime import Detector, engine, example
assert engine.library() is not None
assert engine.__file__.startswith({str(site)!r})
found = Detector(example.MODEL)(np.load('{tmp_path}/pixels.npy'))
np.savez('{tmp_path}/found.npz', **found._asdict())
print(*sorted({{'PIL', 'tqdm', 'cv2', 'torch'}} & sys.modules.keys()))
"""
    result = run(site, '-W', 'error', '-c', script)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout == '\n'
    wanted = Detector(example.MODEL)(pixels)
    assert engine.library() is not None and len(wanted.labels) > 0
    with np.load(tmp_path / 'found.npz') as found:
        for name, array in wanted._asdict().items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_files_need_pillow(site, tmp_path):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    result = run(site, '-m', 'aqd_mmdet.runtime', 'm.aqd', tmp_path / 'a.png')
    assert result.returncode == 2
    assert result.stderr == (
        'error: python -m aqd_mmdet.runtime needs pillow, which is not '
        'installed: pip install pillow\n'
    )
