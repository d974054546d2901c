"""A detector that neither mmdet nor this package knows, by a recipe alone."""

import numpy as np
import pytest
import torch
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.layers import (
    QuantActivation,
    QuantAdd,
    QuantAvgPool,
    QuantConv2d,
    QuantMean,
    QuantMultiply,
)
from aqd_mmdet.models.integer_aware import IntegerNetwork
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import Detector, reference
from tests import oracle
from tests.factories import normalised, pixels


def block(i: int, o: int, stride: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, 3, stride, 1, groups=groups, bias=False),
        nn.BatchNorm2d(o),
        nn.SiLU(),
    )


@MMDET_MODELS.register_module(force=True)
class TinyBackbone(BaseModule):
    """A stem, a depthwise block with a shortcut, a gate, two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8, 4)
        self.deep = block(8, 8, 1, groups=8)
        self.down = block(8, 16, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.average = nn.AvgPool2d(3, 1, 1)
        self.whole = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = self.merged(x * self.gate(self.whole(x)), self.deep(x))
        x = self.down(torch.cat([self.average(y) for y in x.split(4, 1)], 1))
        return x, self.pool(x)

    def merged(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.whole(y).sigmoid() * y


@MMDET_MODELS.register_module(force=True)
class TinyHead(AnchorHead):
    """One convolution each."""

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv_cls(x), self.conv_reg(x)


@MMDET_MODELS.register_module(force=True)
class TinyDetector(SingleStageDetector):
    """Of the two."""


CONFIG = Config(
    dict(
        model=dict(
            type='aqd_mmdet.QuantizedDetector',
            detector='TinyDetector',
            bits=4,
            recipe=[
                dict(modules='*', conv=dict(act_grid='leaky')),
                dict(
                    modules='backbone.stem.0',
                    conv=dict(weight_bits=8, act_grid='image'),
                ),
                dict(modules='backbone', add=dict(signed=True)),
                dict(modules='*', act=dict()),
                dict(modules='backbone', mul=dict(grid='leaky')),
                dict(modules='*', pool=dict(grid='leaky')),
            ],
            data_preprocessor=dict(
                type='DetDataPreprocessor',
                mean=[124, 116, 104],
                std=[1, 1, 1],
                bgr_to_rgb=True,
                pad_size_divisor=16,
            ),
            backbone=dict(type='TinyBackbone'),
            bbox_head=dict(
                type='TinyHead',
                num_classes=3,
                in_channels=16,
                feat_channels=16,
                anchor_generator=dict(
                    type='AnchorGenerator',
                    scales=[4],
                    ratios=[0.5, 1.0],
                    strides=[8, 16],
                ),
                loss_cls=dict(type='FocalLoss', use_sigmoid=True),
                loss_bbox=dict(type='L1Loss'),
            ),
            train_cfg=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.5,
                    neg_iou_thr=0.4,
                    min_pos_iou=0,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(type='PseudoSampler'),
                allowed_border=-1,
                pos_weight=-1,
            ),
            test_cfg=dict(
                nms_pre=100,
                score_thr=0.001,
                nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=20,
            ),
        ),
        test_dataloader=dict(
            dataset=dict(
                type='CocoDataset',
                metainfo=dict(classes=('a', 'b', 'c')),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale=(64, 64), keep_ratio=True),
                ],
            )
        ),
    )
)


@pytest.fixture
def model() -> nn.Module:
    model = MODELS.build(CONFIG.model)
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 64, 64)))], mse_clip)
    return model


def test_its_layers_are_exchanged(model):
    assert type(model) is TinyDetector
    assert isinstance(model.backbone.stem[0], QuantConv2d)
    assert isinstance(model.backbone.stem[2], QuantActivation)
    assert isinstance(model.backbone.adds[0], QuantAdd)
    assert len(model.backbone.muls) == 2
    assert isinstance(model.backbone.muls[0], QuantMultiply)
    (sigmoid,) = model.backbone.acts
    assert isinstance(sigmoid, QuantActivation)
    assert isinstance(model.backbone.average, QuantAvgPool)
    assert isinstance(model.backbone.whole, QuantMean)
    assert isinstance(model.bbox_head.conv_cls, QuantConv2d)


def test_it_trains(model):
    data = demo_mm_inputs(2, [(3, 64, 64)] * 2, num_classes=3)
    data = model.data_preprocessor(data, True)
    losses, _ = model.parse_losses(model.train()(**data, mode='loss'))
    losses.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_it_is_compiled_and_finds_boxes(model):
    compiled = compile_detector(
        model.eval(), CONFIG, lambda text: None
    ).compiled
    network = IntegerNetwork(model)
    image = pixels(1, 3, 48, 64)
    expected = reference.run(network.folded.program, image.numpy())
    by_oracle = oracle.run(network.folded.program, image[0].tolist())
    for out, maps in zip(
        network.folded.program.outputs,
        network.evaluate(normalised(image)),
        strict=True,
    ):
        for name, values in zip(out.tensors, maps, strict=True):
            codes = (values.double() / out.scale).round().numpy()
            assert np.array_equal(codes, expected[name])
            assert codes[0].tolist() == by_oracle[name]
    found = Detector(compiled)(image[0].permute(1, 2, 0).numpy())
    assert len(found.labels) > 0
