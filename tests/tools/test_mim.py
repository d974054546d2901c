"""mim finds the configs and tools of the installed package."""

import json

import pytest

from tests.factories import ROOT, data_options, digits_detector
from tests.installed import ENGINE

pytest.importorskip('mim')
pytestmark = pytest.mark.slow


def test_configs_are_found_by_their_names(installed, tmp_path, digits):
    checkpoint = tmp_path / 'digits.pth'
    digits_detector(checkpoint)
    output = installed.run(
        *(tmp_path, 'mim', 'test', 'aqd_mmdet', 'retinanet_digits_2bit.py'),
        *('--checkpoint', checkpoint, '--work-dir', tmp_path / 'w'),
        *('--cfg-options', *data_options(digits)),
    )
    assert str(installed.site / '_aqd_mmdet_mim/tools/test.py') in output


def test_run(installed, tmp_path):
    installed.run(
        *(tmp_path, 'mim', 'run', 'aqd_mmdet', 'make_digits'),
        *('--out', 'd', '--train', 2, '--val', 1),
    )
    assert (tmp_path / 'd/val.json').is_file()


def test_search(installed, tmp_path):
    found = tmp_path / 'found.json'
    installed.run(
        *(tmp_path, 'mim', 'search', 'aqd_mmdet'),
        *('--model', 'AQD-digits', '--json', found),
    )
    assert json.loads(found.read_text())['bits'] == {
        f'{detector}_digits_{name}': bits
        for detector in ('retinanet', 'fcos')
        for name, bits in [
            ('fp', 'float'),
            *((f'{bits}bit', bits) for bits in (8, 4, 3, 2)),
        ]
    }


def test_the_engine_is_installed(installed):
    content = (installed.site / ENGINE).read_bytes()
    assert content == (ROOT / ENGINE).read_bytes()


def test_both_install_locations_hold_the_same_files(installed):
    for folder in ('aqd_mmdet/.mim', '_aqd_mmdet_mim'):
        for path in (
            'tools/train.py',
            'configs/aqd/retinanet_2bit.py',
            'configs/aqd/metafile.yml',
            'model-index.yml',
        ):
            content = (installed.site / folder / path).read_bytes()
            assert content == (ROOT / path).read_bytes()


def test_the_example_is_installed(installed):
    for path in (ROOT / 'aqd_mmdet/runtime/example').glob('*.*'):
        content = installed.site / path.relative_to(ROOT)
        assert content.read_bytes() == path.read_bytes()
