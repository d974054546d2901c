"""A compiled detector is tested with the config that it is of."""

import pytest
from mmengine.config import Config

from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.engine.compiled_model import check_compiled, use_compiled
from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_detector, onnx_model
from aqd_mmdet.program import file
from aqd_mmdet.quantizers.start import mse_clip
from tests.factories import digits_config, normalised, pixels


@pytest.fixture(scope='module', params=['.aqd', '.onnx'])
def model(request, tmp_path_factory):
    """A compiled detector of the config on digits, and its export."""
    from mmengine.registry import MODELS

    cfg = digits_config('2bit')
    detector = MODELS.build(cfg.model)
    data = dict(inputs=normalised(pixels(2, 3, 96, 96)))
    calibrate(detector, [data], mse_clip)
    compilation = compile_detector(detector.eval(), cfg, lambda text: None)
    path = tmp_path_factory.mktemp('aqd') / 'model.aqd'
    file.save(compilation.compiled, path)
    exported = onnx_detector.export(compilation.compiled, onnx_model.network)
    path.with_suffix('.onnx').write_bytes(exported)
    return path.with_suffix(request.param)


PRE = 'model.data_preprocessor'
TEST = 'model.test_cfg'
DATA = 'test_dataloader.dataset'
RESIZE = f'{DATA}.pipeline.1'


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            {f'{DATA}.metainfo.classes': tuple('9876543210')},
            "label 0 is '9' by the config, but '0' by model",
        ),
        (
            {f'{DATA}.metainfo.classes': tuple('012')},
            "label 3 is missing by the config, but '3' by model",
        ),
        ({f'{RESIZE}.scale': (320, 320)}, 'has short=160 .* config 320'),
        ({f'{RESIZE}.keep_ratio': False}, 'has stretch=False'),
        ({f'{PRE}.bgr_to_rgb': False}, 'has bgr=False'),
        ({f'{PRE}.pad_value': 1}, r'has fill=\(124, 116, 104\)'),
        ({f'{PRE}.pad_size_divisor': 64}, 'has pad_size_divisor=32'),
        (
            {f'{DATA}.pipeline.0.color_type': 'color_ignore_orientation'},
            'has oriented=True',
        ),
        ({f'{TEST}.score_thr': 0.3}, 'another model.test_cfg.score_thr'),
        ({f'{TEST}.max_per_img': 7}, 'another model.test_cfg.max_per_img'),
        ({f'{TEST}.nms_pre': 7}, 'another model.test_cfg.nms_pre'),
        (
            {f'{TEST}.nms.iou_threshold': 0.7},
            'another model.test_cfg.nms.iou_threshold',
        ),
        ({f'{TEST}.nms.type': 'soft_nms'}, 'soft_nms'),
    ],
)
def test_another_config(model, changes, message):
    check_compiled(digits_config('2bit'), model)
    cfg = digits_config('2bit')
    cfg.merge_from_dict(changes)
    with pytest.raises(UserError, match=message) as caught:
        check_compiled(cfg, model)
    assert str(model) in str(caught.value)


def test_the_config_of_the_training_stays(model, tmp_path):
    """Runners write their config into the work_dir, by its name."""
    cfg = digits_config('2bit')
    cfg.dump(tmp_path / 'mine.py')
    cfg = Config.fromfile(tmp_path / 'mine.py')
    use_compiled(cfg, model)
    assert cfg.filename == str(tmp_path / 'mine_compiled.py')
    # The config that the runner writes is of no detector.
    with pytest.raises(UserError, match='expected the config of a detector'):
        check_compiled(cfg, model)
