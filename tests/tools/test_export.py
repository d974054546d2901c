"""tools/export.py: a file that runs, or one line and no file."""

from pathlib import Path

import numpy as np
import pytest

from aqd_mmdet.program import file
from aqd_mmdet.program.detector import Anchors, Sigmoid
from aqd_mmdet.runtime import reference
from tests.export.models import session
from tests.factories import detector, error_line, run_tool
from tests.random_detectors import random_detector


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file.save(detector(), tmp_path / 'model.aqd')
    return tmp_path / 'model.aqd'


def export(model: Path, out: Path, *options: str):
    return run_tool('tools/export.py', model, '--out', out, *options)


def test_a_file_that_runs(model, tmp_path):
    out = tmp_path / 'model.onnx'
    result = export(model, out, '--format', 'onnx')
    assert result.returncode == 0, result.stderr
    assert result.stdout == f'{out}: {out.stat().st_size} bytes\n'
    image = np.arange(3 * 8 * 16, dtype=np.uint8).reshape(1, 3, 8, 16)
    found = session(out.read_bytes()).run(None, {'image': image})
    expected = reference.run(detector().program, image)
    for values, wanted in zip(found, expected.values(), strict=True):
        assert np.array_equal(values, wanted)


def test_real_maps(model, tmp_path):
    out = tmp_path / 'model.onnx'
    result = export(model, out, '--format', 'qdq')
    assert result.returncode == 0, result.stderr
    image = np.arange(3 * 8 * 16, dtype=np.uint8).reshape(1, 3, 8, 16)
    maps = session(out.read_bytes()).run(None, {'image': image})
    program = detector().program
    expected = reference.run(program, image)
    for found, codes, output in zip(
        maps, expected.values(), program.outputs, strict=True
    ):
        assert found.dtype == np.float32
        assert np.abs(found / output.scale - codes).max() <= 1


@pytest.mark.parametrize('form', ['onnx', 'qdq'])
def test_mistakes_leave_an_earlier_file(model, tmp_path, form):
    out = tmp_path / 'model.onnx'
    out.write_bytes(b'earlier')
    second = random_detector(0, Anchors, Sigmoid, 1)
    file.save(second, tmp_path / 'second.aqd')
    line = error_line(export(tmp_path / 'second.aqd', out, '--format', form))
    assert 'a second stage' in line
    model.write_bytes(model.read_bytes()[:-1])
    assert str(model) in error_line(export(model, out, '--format', form))
    assert out.read_bytes() == b'earlier'
    assert {path.suffix for path in tmp_path.iterdir()} == {'.aqd', '.onnx'}


@pytest.mark.parametrize('out', ['model.aqd', 'missing/model.onnx'])
def test_names_that_cannot_be_written(model, tmp_path, out):
    assert f'--out {tmp_path / out}' in error_line(
        export(model, tmp_path / out)
    )
