"""The engine as a C library: built, installed and used as its users would."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import MODELS
from PIL import Image

from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.program import file
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import Detector
from tests.factories import ROOT, digits_config, normalised, pixels

pytestmark = pytest.mark.slow

for tool in ('cmake', 'pkg-config', 'cc'):
    if shutil.which(tool) is None:
        pytest.skip(f'there is no {tool} here', allow_module_level=True)


@pytest.fixture(scope='module')
def build_folder(tmp_path_factory) -> Path:
    """Where CMake compiles the engine, once for both kinds of library."""
    return tmp_path_factory.mktemp('build')


@pytest.fixture(scope='module', params=['OFF', 'ON'])
def example(request, build_folder, tmp_path_factory) -> Path:
    """examples/detect.c, with the library static or shared."""
    folder = tmp_path_factory.mktemp('library')
    for command in (
        [
            *('-S', ROOT, '-B', build_folder),
            f'-DBUILD_SHARED_LIBS={request.param}',
            # It is compiled faster, and computes the same.
            *('-DCMAKE_INSTALL_LIBDIR=lib', '-DCMAKE_BUILD_TYPE=Debug'),
        ],
        ['--build', build_folder],
        ['--install', build_folder, '--prefix', folder / 'installed'],
    ):
        subprocess.run(['cmake', *command], check=True, capture_output=True)
    libraries = folder / 'installed/lib'
    flags = subprocess.run(
        ['pkg-config', '--cflags', '--libs', '--static', 'aqd'],
        env={**os.environ, 'PKG_CONFIG_PATH': f'{libraries}/pkgconfig'},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    subprocess.run(
        [
            *('cc', '-std=c99', '-Wall', '-Wextra', '-Wconversion', '-Werror'),
            *(ROOT / 'examples/detect.c', *flags, f'-Wl,-rpath,{libraries}'),
            *('-o', folder / 'detect'),
        ],
        check=True,
    )
    return folder / 'detect'


@pytest.fixture(scope='module')
def model(tmp_path_factory, digits) -> Path:
    """A detector of digits that finds many, since it is not trained."""
    cfg = digits_config('2bit')
    network = MODELS.build(cfg.model).eval()
    calibrate(
        network, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip
    )
    compiled = compile_detector(network, cfg, lambda text: None).compiled
    # Beyond the image, as some heads place boxes.
    post = replace(compiled.postprocess, threshold=-(2**30), margin=2**14)
    path = tmp_path_factory.mktemp('model') / 'model.aqd'
    file.save(replace(compiled, postprocess=post), path)
    return path


@pytest.fixture
def picture(digits, tmp_path) -> Path:
    source = sorted((digits / 'val').glob('*.png'))[0]
    Image.open(source).convert('RGB').save(tmp_path / 'a.ppm')
    return tmp_path / 'a.ppm'


def run(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60
    )


def test_it_finds_what_python_finds(example, model, picture):
    detector = Detector(model)
    found = detector(np.asarray(Image.open(picture)))
    result = run(example, model, picture)
    assert (result.returncode, result.stderr) == (0, '')
    lines = [line.split() for line in result.stdout.splitlines()]
    assert len(lines) == len(found.labels) > 10
    assert (found.boxes < 0).any()
    for words, box, label, score in zip(lines, *found, strict=True):
        assert words[0] == detector.labels[label]
        assert int(words[1]) == (int(score) * 1000 + 2**23) >> 24
        for word, edge in zip(words[2:], box.tolist(), strict=True):
            assert abs(float(word) - edge / 256) <= 0.006


def test_mistakes_are_one_line(example, model, picture, tmp_path):
    (tmp_path / 'half.aqd').write_bytes(model.read_bytes()[:999])
    (tmp_path / 'half.ppm').write_bytes(picture.read_bytes()[:999])
    (tmp_path / 'thin.ppm').write_bytes(b'P6 201 1 255\n' + bytes(603))
    (tmp_path / 'grey.ppm').write_bytes(b'P5 4 4 255\n' + bytes(16))
    for arguments, message in [
        ((), 'give a model.aqd and a picture.ppm'),
        (('no.aqd', picture), 'no.aqd: cannot be read'),
        ((tmp_path / 'half.aqd', picture), 'half.aqd: section JSON: expected'),
        ((model, 'no.ppm'), 'no.ppm: cannot be read'),
        ((model, tmp_path / 'half.ppm'), 'not a whole P6 picture'),
        ((model, tmp_path / 'grey.ppm'), 'not a whole P6 picture'),
        ((model, tmp_path / 'thin.ppm'), 'not an image that the detector'),
    ]:
        result = run(example, *arguments)
        assert result.returncode == 2
        assert result.stdout == ''
        assert result.stderr.startswith('error: ')
        assert message in result.stderr
        assert result.stderr.count('\n') == 1
