"""The wheel aqd-mmdet-runtime: what is in it, what it asks for, what it
finds."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet import __version__
from aqd_mmdet.runtime import Detector, engine, example
from tests.factories import ROOT

MAX_BYTES = 3_000_000
EXAMPLE = example.MODEL.parent
# Symbols' versions that the library may ask for, of each of its sources: those
# of manylinux_2_27.
NEWEST = {
    'GLIBC': (2, 27),
    'GLIBCXX': (3, 4, 24),
    'CXXABI': (1, 3, 11),
    'GCC': (7, 0, 0),
}


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('wheel')
    source = ROOT / 'packaging/runtime'
    before = sorted(source.rglob('*'))
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps'),
            *('--no-build-isolation', '--wheel-dir', out),
            source,
        ],
        check=True,
    )
    assert sorted(source.rglob('*')) == before
    (made,) = out.iterdir()
    return made


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
    prefix = f'aqd_mmdet_runtime-{__version__}-py3-none-'
    assert wheel.name.startswith(prefix)
    assert not wheel.name.endswith('-any.whl')
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (
            archive.read(x).decode()
            for x in archive.namelist()
            if x.endswith('METADATA')
        )
    needed = re.findall(r'^Requires-Dist: (.*)$', metadata, re.MULTILINE)
    assert needed == [
        'numpy>=1.26',
        'pillow; extra == "images"',
        'pillow; extra == "serve"',
        'uvicorn; extra == "serve"',
    ]


@pytest.mark.skipif(sys.platform != 'linux', reason='of the GNU C library')
def test_old_libraries_are_enough(site):
    if shutil.which('objdump') is None:
        pytest.skip('objdump is not installed')
    library = site / 'aqd_mmdet/runtime/_engine.so'
    text = subprocess.check_output(['objdump', '-p', library], text=True)
    found = re.findall(r'\b(GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)', text)
    assert {name for name, _ in found} == set(NEWEST)
    for name, version in found:
        assert tuple(map(int, version.split('.'))) <= NEWEST[name], version
    # Nor a folder of the machine that it was built on.
    assert 'PATH' not in text


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
