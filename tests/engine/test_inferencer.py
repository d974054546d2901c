"""mmdet's inferencer on our configs, and ours on compiled detectors."""

import json
from pathlib import Path

import mmcv
import numpy as np
import pytest
from mmdet.apis import DetInferencer, inference_detector, init_detector
from PIL import Image

from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.engine.inferencer import AQDInferencer
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector
from tests.factories import CONFIGS, DIGITS, digits_config, digits_detector

CONFIG = str(CONFIGS / 'digits/retinanet_digits_2bit.py')
SIZE = (96, 128)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A checkpoint, its program, and two pictures."""
    folder = tmp_path_factory.mktemp('inferencer')
    detector = digits_detector(folder / 'model.pth')
    cfg = digits_config('2bit')
    compilation = compile_detector(detector, cfg, lambda text: None)
    file.save(compilation.compiled, folder / 'model.aqd')
    (folder / 'in').mkdir()
    for seed in range(2):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(image).save(folder / f'in/{seed}.png')
    return folder


def test_mmdets_own_take_our_configs_and_checkpoints(folder):
    image = str(folder / 'in/0.png')
    checkpoint = str(folder / 'model.pth')
    detector = init_detector(CONFIG, checkpoint, device='cpu')
    assert detector.dataset_meta['classes'] == DIGITS
    found = inference_detector(detector, image).pred_instances
    assert len(found) > 0
    inferencer = DetInferencer(
        CONFIG, checkpoint, device='cpu', show_progress=False
    )
    (prediction,) = inferencer(image)['predictions']
    assert prediction['labels'] == found.labels.tolist()
    assert prediction['bboxes'] == found.bboxes.tolist()


@pytest.fixture(scope='module')
def inferencer(folder) -> AQDInferencer:
    return AQDInferencer(str(folder / 'model.aqd'), show_progress=False)


def test_predictions_are_the_runtimes(folder, inferencer):
    paths = [str(folder / f'in/{seed}.png') for seed in range(2)]
    wanted = Detector(folder / 'model.aqd').predict(paths)
    images = [mmcv.imread(path) for path in paths]
    for inputs in (paths, images, str(folder / 'in')):
        result = inferencer(inputs, batch_size=2)
        assert result['visualization'] == []
        assert len(result['predictions']) == 2
        found = result['predictions']
        if inputs == str(folder / 'in'):  # mmdet lists folders in any order
            found = sorted(
                found, key=lambda x: x['scores'] != wanted[0].scores.tolist()
            )
        for one, prediction in zip(found, wanted, strict=True):
            assert len(prediction) > 0
            assert one == dict(
                labels=prediction.labels.tolist(),
                scores=prediction.scores.tolist(),
                bboxes=prediction.boxes.tolist(),
            )


def test_the_same_keys_as_mmdets(folder, inferencer):
    image = str(folder / 'in/0.png')
    own = DetInferencer(
        CONFIG, str(folder / 'model.pth'), device='cpu', show_progress=False
    )
    calls = dict(return_vis=True, pred_score_thr=0.0, return_datasamples=True)
    theirs, ours = own(image, **calls), inferencer(image, **calls)
    assert theirs.keys() == ours.keys()
    for a, b in zip(theirs['predictions'], ours['predictions'], strict=True):
        assert type(a) is type(b)
        for name, tensor in a.pred_instances.items():
            assert b.pred_instances[name].dtype == tensor.dtype
        assert b.img_path == a.img_path and b.ori_shape == a.ori_shape
    (a,), (b,) = theirs['visualization'], ours['visualization']
    assert a.shape == b.shape == (*SIZE, 3) and a.dtype == b.dtype


def test_files_that_are_written(folder, inferencer, tmp_path):
    image = str(folder / 'in/0.png')
    result = inferencer(
        image, out_dir=str(tmp_path), no_save_pred=False, pred_score_thr=0.0
    )
    assert (
        json.loads((tmp_path / 'preds/0.json').read_text())
        == (result['predictions'][0])
    )
    drawn = mmcv.imread(str(tmp_path / 'vis/0.png'))
    assert drawn.shape == (*SIZE, 3)
    assert not np.array_equal(drawn, mmcv.imread(image))


def test_inputs_that_are_refused(folder, inferencer):
    with pytest.raises(UserError, match='image nothing.png: no such file'):
        inferencer('nothing.png')
    with pytest.raises(UserError, match='a compiled detector has no texts'):
        inferencer(str(folder / 'in/0.png'), texts='a digit')
