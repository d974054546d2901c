"""tools/export.py: a file that runs, or one line and no file."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from aqd_mmdet.program import file
from aqd_mmdet.program.detector import Anchors, Sigmoid
from aqd_mmdet.runtime import Detector, reference
from tests.export.models import session
from tests.export.qonnx_operators import evaluate
from tests.factories import detector, noise
from tests.random_detectors import random_detector
from tests.tool import ROOT, error_line, run_tool


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
def test_check(model, tmp_path, form):
    out, folder = tmp_path / 'model.onnx', tmp_path / 'pictures'
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(noise(seed, 20, 30)).save(folder / f'{seed}.png')
    result = export(model, out, '--format', form, '--check', folder)
    assert result.returncode == 0, result.stderr
    assert "codes of maps: all are the engine's\n" in result.stdout
    assert out.exists()


def test_a_picture_that_the_detector_refuses(model, tmp_path):
    out, thin = tmp_path / 'model.onnx', tmp_path / 'thin.png'
    Image.fromarray(noise(0, 17000, 1)).save(thin)
    line = error_line(export(model, out, '--check', thin))
    assert str(thin) in line
    assert not out.exists()


@pytest.mark.parametrize('form', ['onnx', 'qdq'])
def test_boxes(model, tmp_path, form):
    out = tmp_path / 'model.onnx'
    result = export(model, out, '--format', form, '--boxes')
    assert result.returncode == 0, result.stderr
    image = np.arange(3 * 8 * 16, dtype=np.uint8).reshape(1, 3, 8, 16)
    found = session(out.read_bytes()).run(
        None, {'image': image, 'size': np.array([8, 16])}
    )
    if form == 'qdq':
        assert [x.dtype for x in found] == [np.int32] * 3
        return
    maps = reference.run(detector().program, image)
    boxes = Detector(detector(), 1, reference.run).boxes
    expected = boxes(maps, 0, (8, 16), (8, 16))
    for values, wanted in zip(found, expected, strict=True):
        assert np.array_equal(values, wanted)


def test_qonnx(model, tmp_path):
    out = tmp_path / 'model.onnx'
    result = export(model, out, '--format', 'qonnx', '--size', '8x16')
    assert result.returncode == 0, result.stderr
    image = np.arange(3 * 8 * 16, dtype=np.uint8).reshape(1, 3, 8, 16)
    found = evaluate(onnx.load(out), image)
    expected = reference.run(detector().program, image)
    for values, wanted in zip(found.values(), expected.values(), strict=True):
        assert np.array_equal(values, wanted)


@pytest.mark.parametrize(
    'options, message',
    [
        (('qonnx',), 'the size of the image is missing'),
        (('qonnx', '--size', '8x12'), '--size 8x12: expected'),
        (('qonnx', '--size', '8x8', '--boxes'), '--boxes: expected'),
        (('onnx', '--size', '8x8'), '--size: expected --format qonnx'),
        (('qdq', '--boxes', '--check', '.'), '--check: expected'),
        (('qonnx', '--size', '8x8', '--check', '.'), '--check: expected'),
        (('onnx', '--check', 'missing'), 'image missing: no such file'),
    ],
)
def test_options_of_other_formats(model, tmp_path, options, message):
    out = tmp_path / 'model.onnx'
    line = error_line(export(model, out, '--format', *options))
    assert line.startswith(f'error: {message}')
    assert not out.exists()


def test_a_header(model, tmp_path):
    out = tmp_path / 'any.h'
    result = export(model, out, '--format', 'header')
    assert result.returncode == 0, result.stderr
    assert result.stdout == f'{out}: {out.stat().st_size} bytes\n'
    numbers = out.read_text().split('{\n')[1].split('\n}')[0]
    found = bytes(map(int, numbers.rstrip(',').split(',')))
    assert found == model.read_bytes()


def test_a_header_has_no_choice_of_boxes(model, tmp_path):
    out = tmp_path / 'model.h'
    line = error_line(export(model, out, '--format', 'header', '--boxes'))
    assert line.startswith('error: --boxes: expected --format onnx or qdq')
    assert not out.exists()


@pytest.mark.parametrize(
    'form, name',
    [('header', 'model.onnx'), ('header', 'model.c'), ('onnx', 'model.h')],
)
def test_a_suffix_of_another_format_is_refused(model, tmp_path, form, name):
    out = tmp_path / name
    line = error_line(export(model, out, '--format', form))
    assert f'--out {out}: give a name that ends in' in line
    assert not out.exists()


@pytest.mark.parametrize('form', ['onnx', 'qdq'])
def test_mistakes_leave_an_earlier_file(model, tmp_path, form):
    out = tmp_path / 'model.onnx'
    assert export(model, out).returncode == 0
    earlier = out.read_bytes()
    second = random_detector(0, Anchors, Sigmoid, 1)
    file.save(second, tmp_path / 'second.aqd')
    for boxes in ((), ('--boxes',)):
        line = error_line(
            export(tmp_path / 'second.aqd', out, '--format', form, *boxes)
        )
        assert 'a second stage' in line
    model.write_bytes(model.read_bytes()[:-1])
    assert str(model) in error_line(export(model, out, '--format', form))
    assert out.read_bytes() == earlier
    assert {path.suffix for path in tmp_path.iterdir()} == {'.aqd', '.onnx'}


@pytest.mark.parametrize('form, name', [('onnx', 'a.onnx'), ('header', 'a.h')])
def test_files_of_another_origin_stay(model, tmp_path, form, name):
    out = tmp_path / name
    foreign = helper.make_model(
        helper.make_graph([], 'g', [], []), producer_name='pytorch'
    )
    for content in (b'mine', foreign.SerializeToString()):
        out.write_bytes(content)
        assert error_line(export(model, out, '--format', form)) == (
            f'error: --out {out}: it exists and was not written by this tool, '
            'which would replace it: move it or choose another name'
        )
        assert out.read_bytes() == content
    out.unlink()
    for _ in range(2):  # its own are replaced
        result = export(model, out, '--format', form)
        assert result.returncode == 0, result.stderr


def test_what_is_no_file_stays(model, tmp_path):
    """A pipe is not read, for which nobody writes."""
    out = tmp_path / 'pipe.onnx'
    os.mkfifo(out)
    line = error_line(export(model, out))
    assert f'{out}: it exists and was not written by this tool' in line


@pytest.mark.parametrize('is_there', [False, True])
def test_without_onnx(model, tmp_path, is_there):
    out = tmp_path / 'model.onnx'
    if is_there:
        out.write_bytes(b'mine')
    # A module that is None there cannot be imported.
    code = (
        'import runpy, sys; sys.modules["onnx"] = None; '
        f'sys.argv = ["export.py", {str(model)!r}, "--out", {str(out)!r}]; '
        'runpy.run_path("tools/export.py", run_name="__main__")'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
    )
    line = error_line(result)
    assert line.endswith("not installed: pip install 'aqd_mmdet[export]'")


def test_the_model_stays(model):
    renamed = model.rename(model.with_suffix('.onnx'))
    content = renamed.read_bytes()
    line = error_line(export(renamed, renamed))
    assert line.endswith('it would replace the model; choose another name')
    assert renamed.read_bytes() == content


@pytest.mark.parametrize('out', ['model.aqd', 'missing/model.onnx'])
def test_names_that_cannot_be_written(model, tmp_path, out):
    assert f'--out {tmp_path / out}' in error_line(
        export(model, tmp_path / out)
    )
