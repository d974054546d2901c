import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from aqd_mmdet.layers import QuantConv2d
from tests.factories import CONFIGS

ALL = sorted(p for p in CONFIGS.rglob('*.py'))
DETECTORS = ['retinanet', 'fcos']
MATRIX = [
    (detector, depth, bits)
    for detector in DETECTORS
    for depth in (18, 34, 50)
    for bits in (8, 4, 3, 2)
]


def test_base_names_are_unique():
    # mim looks a config up by its base name.
    names = [p.name for p in ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    'path', [p for p in ALL if '_base_' not in p.parts], ids=lambda p: p.stem
)
def test_every_config_can_be_read(path):
    cfg = Config.fromfile(path)
    assert cfg.model.type == 'aqd_mmdet.QuantizedDetector'
    # By their keys, so that a config's own hooks do not replace them.
    hooks = cfg.default_hooks
    assert hooks.calibration.type == 'aqd_mmdet.CalibrationHook'
    assert hooks.integer_aware.type == 'aqd_mmdet.IntegerAwareHook'
    assert hooks.checkpoint.type == 'CheckpointHook'
    if 'mix' not in path.parts:
        assert cfg.train_dataloader.persistent_workers is False


@pytest.mark.parametrize(
    'path', [p for p in ALL if 'mix' in p.parts], ids=lambda p: p.stem
)
def test_mixed_configs_are_short(path):
    lines = [
        line
        for line in path.read_text().splitlines()
        if line and not line.startswith('#')
    ]
    # At most 15 beyond the list of bases.
    bases = next(i for i, x in enumerate(lines) if x.endswith(']'))
    assert len(lines) - bases - 1 <= 15


@pytest.mark.parametrize('detector, depth, bits', MATRIX)
def test_matrix(detector, depth, bits):
    name = f'aqd/{detector}_r{depth}_fpn_aqd-w{bits}a{bits}_1x_coco.py'
    cfg = Config.fromfile(CONFIGS / name)
    assert cfg.model.bits == bits
    assert cfg.model.backbone.depth == depth
    assert cfg.model.backbone.frozen_stages == -1
    assert cfg.optim_wrapper.optimizer.lr == (
        0.002 if (detector, depth, bits) == ('retinanet', 18, 4) else 0.001
    )
    assert f'{detector}_r{depth}_fpn_bn_1x_coco' in cfg.load_from


@pytest.mark.parametrize('detector', DETECTORS)
@pytest.mark.parametrize('bits', [8, 4, 3, 2])
def test_front_doors(detector, bits):
    cfg = Config.fromfile(CONFIGS / f'aqd/{detector}_{bits}bit.py')
    assert (cfg.model.backbone.depth, cfg.model.bits) == (50, bits)
    assert cfg.load_from == f'work_dirs/{detector}_fp/epoch_12.pth'


@pytest.mark.parametrize('detector', DETECTORS)
def test_float_front_door_follows_the_published_schedule(detector):
    cfg = Config.fromfile(CONFIGS / f'aqd/{detector}_fp.py')
    assert cfg.model.bits == 'float'
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001
    )
    assert cfg.param_scheduler[0].end == 1000
    assert cfg.model.backbone.init_cfg.type == 'aqd_mmdet.PretrainedRawImage'


def test_overrides_are_as_usual():
    cfg = Config.fromfile(CONFIGS / 'aqd/retinanet_2bit.py')
    cfg.merge_from_dict({'model.bbox_head.num_classes': 3, 'model.bits': 3})
    model = MODELS.build(cfg.model)
    assert model.bbox_head.retina_cls.out_channels == 9 * 3
    stem = model.backbone.conv1
    assert isinstance(stem, QuantConv2d)
    assert stem.weight_quantizer.grid.bits == 8
    assert model.backbone.layer1[0].conv1.weight_quantizer.grid.bits == 3


def test_clip_values_do_not_decay():
    from mmengine.optim import build_optim_wrapper

    cfg = Config.fromfile(
        CONFIGS / 'aqd/retinanet_r18_fpn_aqd-w2a2_1x_coco.py'
    )
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decay = {id(g['params'][0]): g['weight_decay'] for g in groups}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0 if name.endswith('.clip') else 1e-4)
