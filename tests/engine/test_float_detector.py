"""What quantisation after training is given: pictures, files of ONNX."""

import argparse
from pathlib import Path

import pytest
from mmengine.config import Config

from aqd_mmdet.engine.float_detector import find_pictures, use_onnx
from aqd_mmdet.errors import UserError


@pytest.mark.parametrize('kind', [str, Path])
def test_pictures_of_a_folder(tmp_path, kind):
    inner = tmp_path / 'inner'
    inner.mkdir()
    expected = {tmp_path / 'a.png', inner / 'b.JPG'}
    for path in (*expected, tmp_path / 'notes.txt'):
        path.touch()
    assert set(find_pictures(Config(), kind(tmp_path), 9)) == expected
    assert len(find_pictures(Config(), kind(tmp_path), 1)) == 1
    with pytest.raises(UserError, match='no such folder'):
        find_pictures(Config(), kind(tmp_path / 'gone'), 9)


def arguments(config: str, **others: object) -> argparse.Namespace:
    values = dict(checkpoint=None, images=None, classes=[], work_dir=None)
    return argparse.Namespace(config=config, **{**values, **others})


@pytest.mark.parametrize(
    'args, message',
    [
        (arguments('a.py'), 'a.py: give its checkpoint as well'),
        (arguments('a.py', checkpoint='b.onnx'), 'give the ONNX file alone'),
        (
            arguments('a.py', checkpoint='b.pth', classes=['c']),
            '--classes: names for an ONNX file',
        ),
        (
            arguments('a.onnx', checkpoint='b.pth', images=Path('c')),
            'b.pth: a.onnx has its weights in it; leave',
        ),
        (arguments('a.onnx'), 'a.onnx: .* give --images'),
        (arguments('a.onnx', images=Path('c')), 'a.onnx: no such file'),
    ],
)
def test_arguments_that_do_not_fit_a_file_of_onnx(args, message):
    with pytest.raises(UserError, match=message):
        use_onnx(args, print)


def test_a_config_and_its_checkpoint_stay():
    args = arguments('a.py', checkpoint='b.pth')
    use_onnx(args, print)
    assert args == arguments('a.py', checkpoint='b.pth')
