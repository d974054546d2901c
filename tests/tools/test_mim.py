"""mim finds the configs and tools of the installed package."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.factories import ROOT, data_options

pytest.importorskip('mim')
SUFFIX = sysconfig.get_config_var('EXT_SUFFIX')
ENGINE = Path(f'aqd_mmdet/runtime/_engine{SUFFIX}')
PLATFORM = f'{sysconfig.get_platform()}-{sys.implementation.cache_tag}'
BUILD = Path(f'build/lib.{PLATFORM}')
FILES = ('setup.py', 'setup.cfg', 'README.md', 'LICENSE', 'model-index.yml')


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A folder into which pip has installed the package."""
    target = tmp_path_factory.mktemp('site')
    # pip leaves a build folder in its source, where mim would find each config
    # a second time. Install from a copy of the checkout.
    source = tmp_path_factory.mktemp('source')
    for name in ('aqd_mmdet', 'configs', 'tools'):
        shutil.copytree(ROOT / name, source / name)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    # The engine was compiled when the checkout was installed. setuptools takes
    # what is in its build folder and is newer than the sources.
    build = source / BUILD / ENGINE.parent
    build.mkdir(parents=True)
    shutil.copy2(ROOT / ENGINE, build)
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'install',
            '--quiet',
            '--no-deps',
            '--no-build-isolation',
            '--target',
            str(target),
            str(source),
        ],
        check=True,
    )
    return target


def mim(installed, tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, '-m', 'mim', *map(str, arguments)],
        cwd=tmp_path,
        env={
            **os.environ,
            'PYTHONPATH': str(installed),
            'OMP_NUM_THREADS': '1',
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_train(installed, tmp_path, digits):
    result = mim(
        installed,
        tmp_path,
        'train',
        'aqd_mmdet',
        'retinanet_digits_2bit.py',
        '--work-dir',
        tmp_path / 'w',
        '--cfg-options',
        *data_options(digits),
        'load_from=None',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=2',
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'w/epoch_1.pth').is_file()
    assert str(installed) in result.stdout
    test_result = mim(
        installed,
        tmp_path,
        'test',
        'aqd_mmdet',
        'retinanet_digits_2bit.py',
        '--checkpoint',
        tmp_path / 'w/epoch_1.pth',
        '--work-dir',
        tmp_path / 't',
        '--cfg-options',
        *data_options(digits),
    )
    assert test_result.returncode == 0, test_result.stderr[-3000:]


def test_run(installed, tmp_path):
    result = mim(
        installed,
        tmp_path,
        'run',
        'aqd_mmdet',
        'make_digits',
        '--out',
        'd',
        '--train',
        2,
        '--val',
        1,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'd/val.json').is_file()


def test_search(installed, tmp_path):
    result = mim(
        *(installed, tmp_path, 'search', 'aqd_mmdet'),
        *('--model', 'AQD-digits', '--json', tmp_path / 'found.json'),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    models = json.loads((tmp_path / 'found.json').read_text())
    assert models['bits'] == {
        f'{detector}_digits_{name}': bits
        for detector in ('retinanet', 'fcos')
        for name, bits in [
            ('fp', 'float'),
            *((f'{bits}bit', bits) for bits in (8, 4, 3, 2)),
        ]
    }


def test_the_engine_is_installed(installed):
    assert (installed / ENGINE).read_bytes() == (ROOT / ENGINE).read_bytes()


def test_both_install_locations_hold_the_same_files(installed):
    for folder in ('aqd_mmdet/.mim', '_aqd_mmdet_mim'):
        for path in (
            'tools/train.py',
            'configs/aqd/retinanet_2bit.py',
            'configs/aqd/metafile.yml',
            'model-index.yml',
        ):
            assert (installed / folder / path).read_bytes() == (
                ROOT / path
            ).read_bytes()
