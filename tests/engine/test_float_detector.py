"""What quantisation after training is given: pictures, files of ONNX."""

import argparse
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from aqd_mmdet.engine.float_detector import find_pictures, use_onnx
from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime import outputs


@pytest.mark.parametrize('kind', [str, Path])
def test_pictures_of_a_folder(tmp_path, kind):
    inner = tmp_path / 'inner'
    inner.mkdir()
    expected = {tmp_path / 'a.png', inner / 'b.JPG'}
    others = (tmp_path / 'notes.txt', tmp_path / '._a.png')
    for path in (*expected, *others):
        path.touch()
    (tmp_path / 'scans.png').mkdir()
    # Drawn by tools/infer.py.
    outputs.save(Image.new('RGB', (9, 9)), inner / 'c.png')
    assert set(find_pictures(Config(), kind(tmp_path), 9)) == expected
    assert len(find_pictures(Config(), kind(tmp_path), 1)) == 1
    with pytest.raises(UserError, match='no such folder'):
        find_pictures(Config(), kind(tmp_path / 'gone'), 9)


def test_training_data_that_cannot_be_read(tmp_path):
    (tmp_path / 'train.json').write_text('{')
    dataset = dict(
        type='mmdet.CocoDataset',
        data_root=str(tmp_path),
        ann_file='train.json',
    )
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    with pytest.raises(UserError, match=r'cannot be read \(JSON.*--images$'):
        find_pictures(cfg, None, 9)


def arguments(config: str, **others: object) -> argparse.Namespace:
    values = dict(
        checkpoint=None, images=None, max_images=9, classes=[], work_dir=None
    )
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
        (arguments('A.ONNX'), 'A.ONNX: .* give --images'),
        (arguments('a.py', checkpoint='B.ONNX'), 'give the ONNX file alone'),
        (
            arguments('a.onnx', images=Path('c')),
            '--images c: there is no such folder',
        ),
        (
            arguments('a.onnx', images=Path('c'), max_images=0),
            '--max-images 0: give the number',
        ),
    ],
)
def test_arguments_that_do_not_fit_a_file_of_onnx(args, message):
    with pytest.raises(UserError, match=message):
        use_onnx(args, print)


@pytest.mark.parametrize('name', ['file', 'file/inner'])
def test_a_file_in_the_place_of_the_work_dir(tmp_path, name):
    file = tmp_path / 'file'
    file.touch()
    work_dir = tmp_path / name
    args = arguments('a.onnx', images=tmp_path, work_dir=str(work_dir))
    with pytest.raises(UserError) as error:
        use_onnx(args, print)
    assert str(error.value) == (
        f'--work-dir {work_dir}: {file} is a file; choose another --work-dir'
    )


def test_a_missing_file_of_onnx(tmp_path):
    (tmp_path / 'b.png').touch()
    args = arguments('a.onnx', images=tmp_path, work_dir=str(tmp_path / 'w'))
    with pytest.raises(UserError, match='a.onnx: no such file'):
        use_onnx(args, print)
    assert not (tmp_path / 'w').exists()


def test_a_config_and_its_checkpoint_stay():
    args = arguments('a.py', checkpoint='b.pth')
    use_onnx(args, print)
    assert args == arguments('a.py', checkpoint='b.pth')
