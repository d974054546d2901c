import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from aqd_mmdet.layers import QuantConv2d
from tests.conftest import CONFIGS

ALL = sorted(p for p in CONFIGS.rglob('*.py'))
MATRIX = [(depth, bits) for depth in (18, 34, 50) for bits in (8, 4, 3, 2)]


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
    assert cfg.train_dataloader.persistent_workers is False


@pytest.mark.parametrize('depth, bits', MATRIX)
def test_matrix(depth, bits):
    name = f'aqd/retinanet_r{depth}_fpn_aqd-w{bits}a{bits}_1x_coco.py'
    cfg = Config.fromfile(CONFIGS / name)
    assert cfg.model.bits == bits
    assert cfg.model.backbone.depth == depth
    assert cfg.model.backbone.frozen_stages == -1
    assert cfg.optim_wrapper.optimizer.lr == (
        0.002 if (depth, bits) == (18, 4) else 0.001
    )
    assert f'retinanet_r{depth}_fpn_bn_1x_coco' in cfg.load_from


@pytest.mark.parametrize('bits', [8, 4, 3, 2])
def test_front_doors(bits):
    cfg = Config.fromfile(CONFIGS / f'aqd/retinanet_{bits}bit.py')
    assert (cfg.model.backbone.depth, cfg.model.bits) == (50, bits)
    assert cfg.load_from == 'work_dirs/retinanet_fp/epoch_12.pth'


def test_float_front_door_follows_the_published_schedule():
    cfg = Config.fromfile(CONFIGS / 'aqd/retinanet_fp.py')
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
