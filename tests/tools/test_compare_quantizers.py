"""tools/compare_quantizers.py as a user calls it."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

from tests.factories import data_options, digits_config, narrow
from tests.tool import error_line, run_tool


@pytest.fixture
def arguments(digits: Path, tmp_path: Path) -> list[object]:
    """A float config with random weights, and pictures."""
    cfg = digits_config('fp')
    cfg.model = narrow(18, 2, 'retinanet')
    cfg.model.bits = 'float'
    cfg.dump(tmp_path / 'config.py')
    state = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'float.pth')
    return [
        *('tools/compare_quantizers.py', tmp_path / 'config.py'),
        *(tmp_path / 'float.pth', '--images', digits),
        *('--out', tmp_path / 'out', '--work-dir', tmp_path / 'work'),
        *('--max-images', 3, '--rounds', 1, '--threads', 1),
        *('--cfg-options', *data_options(digits)),
    ]


def test_mistakes_are_one_line(arguments, tmp_path):
    pytest.importorskip('onnx')
    for options, line in (
        (('--quantizers', 'openvino-8'), "'openvino-8': unknown name"),
        (('--rounds', 0), '--rounds 0: give 1 or more'),
        (('--quantizers', 'aqd-8', '--max-images', 0), '--max-images 0'),
    ):
        assert line in error_line(run_tool(*arguments, *options))
        assert not (tmp_path / 'out').exists()


def test_an_output_that_is_a_file(arguments, tmp_path):
    pytest.importorskip('onnx')
    (tmp_path / 'out').write_text('mine')
    line = error_line(run_tool(*arguments, '--quantizers', 'aqd-8'))
    assert f'folder {tmp_path}/out: it cannot be made' in line
    assert (tmp_path / 'out').read_text() == 'mine'


def test_all_kinds_of_quantisers(arguments, tmp_path):
    for package in ('onnx', 'onnxruntime', 'openvino', 'nncf'):
        pytest.importorskip(package)
    names = [
        *('onnxruntime-float', 'openvino-float', 'onnxruntime-minmax'),
        *('nncf-fast', 'aqd-8-calibrate'),
    ]
    result = run_tool(*arguments, '--quantizers', *names, timeout=900)
    assert result.returncode == 0, result.stderr[-2000:]
    assert '| aqd 8 bits, ranges alone |' in result.stdout
    out = tmp_path / 'out'
    results = json.loads((out / 'quantizers.json').read_text())['results']
    assert [x['name'] for x in results] == ['mmdet', *names]
    for each in results[1:]:
        assert each['latency']['latency'] > 0
        assert each['size'] > 0
    assert results[1]['seconds'] is None
    assert results[3]['seconds'] > 0
    assert [x['float_convolutions'] for x in results[3:]] == [0, 0, 0]
    assert (out / 'nncf-fast.bin').exists()
