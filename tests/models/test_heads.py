"""Heads that stand in the place of mmdet's."""

import pytest
import torch
from mmdet.models.dense_heads import YOLOFHead as MMDetsHead
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.registry import MODELS

from aqd_mmdet.models.heads import YOLOFHead, joined, use_own_heads

HEAD = dict(
    type='YOLOFHead',
    num_classes=3,
    in_channels=8,
    reg_decoded_bbox=True,
    anchor_generator=dict(
        type='AnchorGenerator', ratios=[1.0], scales=[1, 2], strides=[32]
    ),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True),
    loss_bbox=dict(type='GIoULoss'),
)


@pytest.mark.parametrize('name', ['YOLOFHead', 'mmdet.YOLOFHead'])
def test_a_config_gets_the_head_with_mmdets_parameters(name):
    cfg = Config(dict(model=dict(bbox_head=dict(HEAD, type=name))))
    theirs = MODELS.build(cfg.model.bbox_head).eval()
    assert type(theirs) is MMDetsHead
    use_own_heads(cfg)
    own = MODELS.build(cfg.model.bbox_head).eval()
    assert type(own) is YOLOFHead
    own.load_state_dict(theirs.state_dict())
    # mmdet limits exponentials to 1e8, far above these.
    maps = (torch.randn(2, 8, 4, 5) * 10,)
    (logits,), (boxes,) = theirs(maps)
    own_logits, own_boxes, objectness = own(maps)
    assert torch.equal(own_boxes[0], boxes)
    (found,) = joined(own_logits, objectness)
    assert torch.allclose(found, logits, atol=1e-5)


def test_other_heads_and_detectors_are_left_alone():
    for model in (dict(bbox_head=dict(type='RetinaHead')), dict(rpn_head={})):
        cfg = Config(dict(model=model))
        use_own_heads(cfg)
        assert cfg.model == model


def test_a_head_of_that_name_of_another_package_is_left_alone(monkeypatch):
    own = type('YOLOFHead', (MMDetsHead,), {})
    registry = MMDET_MODELS.module_dict
    monkeypatch.setitem(registry, 'YOLOFHead', own)
    cfg = Config(dict(model=dict(bbox_head=dict(HEAD))))
    use_own_heads(cfg)
    assert type(MODELS.build(cfg.model.bbox_head)) is own


def test_joined_logits_have_the_product_of_sigmoids():
    values = torch.tensor([-200.0, -3.0, 0.0, 2.0, 200.0])
    x, y = torch.meshgrid(values, values, indexing='ij')
    (found,) = joined([x[None, None]], [y[None, None]])
    expected = x.double().sigmoid() * y.double().sigmoid()
    assert torch.isfinite(found).all()
    assert torch.allclose(found[0, 0].double().sigmoid(), expected, atol=1e-7)
