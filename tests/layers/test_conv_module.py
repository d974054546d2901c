import torch
from mmengine.registry import MODELS

from aqd_mmdet.layers import QuantConv2d
from tests.factories import started


def test_by_name_with_norm():
    module = MODELS.build(
        dict(
            type='aqd_mmdet.QuantConvModule',
            in_channels=4,
            out_channels=6,
            kernel_size=3,
            conv_cfg=dict(weight_bits=2, act_bits=2),
            norm_cfg=dict(type='BN'),
        )
    )
    assert isinstance(module.conv, QuantConv2d)
    assert module.conv.normalize
    assert started(module)(torch.rand(2, 4, 5, 5)).amin() >= 0
