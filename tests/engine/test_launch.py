import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.registry import MODELS

import aqd_mmdet.datasets  # noqa: F401 (registers transforms)
from aqd_mmdet.compiler.compile import read_test_preprocess
from aqd_mmdet.config import labels_of
from aqd_mmdet.engine import launch
from aqd_mmdet.errors import UserError
from tests.factories import digits_config

SCRIPT = """
import atexit, os
import torch.distributed
from aqd_mmdet.engine import launch

class TornDown:
    def __del__(self):
        print('torn down')

print('begins')
torn_down = TornDown()
atexit.register(print, 'exit')
if {distributed}:
    os.environ.update(
        MASTER_ADDR='127.0.0.1', MASTER_PORT='29512', RANK='0', WORLD_SIZE='1'
    )
    torch.distributed.init_process_group('gloo')
launch.leave()
print('goes on', flush=True)
"""


def run(distributed):
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT.format(distributed=distributed)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    # Packages have their say when they are imported.
    return result.stdout.split('begins\n')[1].splitlines()


@pytest.mark.slow
def test_nothing_is_torn_down_under_threads_of_gloo():
    assert run(distributed=True) == ['exit']


@pytest.mark.slow
def test_without_gloo_a_process_ends_as_others_do():
    assert run(distributed=False) == ['goes on', 'exit', 'torn down']


def test_the_config_stays_where_several_versions_are_tested():
    """Its model is another one then."""
    cfg = digits_config('fp')
    name = Path(cfg.filename)
    launch.use_tta(cfg)
    assert cfg.model.type == 'DetTTAModel'
    assert cfg.filename == str(name.with_stem(f'{name.stem}_tta'))


CONFIG = """
data_root = 'data/here/'
test_pipeline = [dict(type='PackDetInputs')]
model = dict(type='RetinaNet')
test_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    prefetch_factor=4,
    dataset=dict(
        type='CocoDataset', data_root=data_root, pipeline=test_pipeline
    ),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
"""


def read(tmp_path, *options, text=CONFIG):
    path = tmp_path / 'c.py'
    path.write_text(text)
    parser = launch.parser('')
    options = ['--cfg-options', *options] if options else []
    return launch.read_config(parser.parse_args([str(path), *options]))


def test_an_option_that_nothing_reads(tmp_path, capsys):
    with pytest.raises(UserError, match='trian_datal.*nearest: train_datal'):
        read(tmp_path, 'trian_dataloader.batch_size=3')
    cfg = read(tmp_path, 'data_root=data/there/')
    assert cfg.test_dataloader.dataset.data_root == 'data/here/'
    errors = capsys.readouterr().err
    assert (
        'warning: --cfg-options data_root: data_root is a variable' in errors
    )
    read(tmp_path, 'test_dataloader.dataset.data_root=x', 'randomness.seed=3')
    assert 'warning' not in capsys.readouterr().err


def test_a_pipeline_that_nothing_reads(tmp_path, capsys):
    child = tmp_path / 'child.py'
    read(tmp_path)
    child.write_text("_base_ = './c.py'\ntest_pipeline = []\n")
    launch.read_config(launch.parser('').parse_args([str(child)]))
    errors = capsys.readouterr().err
    assert 'warning: test_pipeline of the config is not the pipeline' in errors


def test_pipelines_of_another_package(tmp_path, capsys):
    config = tmp_path / 'c.py'
    config.write_text("_base_ = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'")
    launch.read_config(launch.parser('').parse_args([str(config)]))
    assert 'is not the pipeline' not in capsys.readouterr().err


def test_no_workers(tmp_path):
    assert read(tmp_path).test_dataloader.persistent_workers
    loader = read(tmp_path, 'test_dataloader.num_workers=0').test_dataloader
    assert 'persistent_workers' not in loader
    assert 'prefetch_factor' not in loader


@pytest.mark.parametrize(
    'option', ['compile=True', "efficient_conv_bn_eval=['backbone']"]
)
def test_what_goes_past_the_layers_is_refused(tmp_path, option):
    with pytest.raises(UserError, match=option.split('=')[0]):
        read(tmp_path, option)


def test_a_copied_folder_goes_on_from_its_own_file(tmp_path):
    first, copy = tmp_path / 'first', tmp_path / 'copy'
    first.mkdir()
    assert launch.latest_checkpoint(str(first)) is None
    (first / 'epoch_1.pth').touch()
    (first / 'last_checkpoint').write_text(str(first / 'epoch_1.pth'))
    shutil.copytree(first, copy)
    for folder in (first, copy):
        expected = str(folder / 'epoch_1.pth')
        assert launch.latest_checkpoint(str(folder)) == expected
    (copy / 'epoch_1.pth').unlink()
    with pytest.raises(UserError, match='epoch_1.pth is not there'):
        launch.latest_checkpoint(str(copy))


def test_arguments_that_a_model_does_not_have(tmp_path):
    cfg = digits_config('2bit')
    cfg.work_dir, cfg.model.bit = str(tmp_path), 4
    with pytest.raises(UserError, match="TypeError: .*'bit'"):
        launch.build_runner(cfg)


NEW_STYLE = """
from mmengine.config import read_base
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmcv.transforms import LoadImageFromFile

model = dict(
    type='aqd_mmdet.QuantizedDetector',
    data_preprocessor=dict(type='DetDataPreprocessor'),
)
test_dataloader = dict(
    dataset=dict(
        type=CocoDataset,
        metainfo=dict(classes=('a', 'b')),
        pipeline=[
            dict(type=LoadImageFromFile),
            dict(type=Resize, scale=(96, 96), keep_ratio=True),
            dict(type=LoadAnnotations, with_bbox=True),
            dict(type=PackDetInputs),
        ],
    )
)
"""


def test_configs_with_classes_in_the_place_of_names(tmp_path):
    cfg = read(tmp_path, text=NEW_STYLE)
    assert labels_of(cfg, 'test') == ('a', 'b')
    first = cfg.test_dataloader.dataset.pipeline[0]
    assert first['type'] == 'aqd_mmdet.LoadWholeImage'
    pre = MODELS.build(cfg.model.data_preprocessor)
    assert read_test_preprocess(pre, cfg).long == 96
