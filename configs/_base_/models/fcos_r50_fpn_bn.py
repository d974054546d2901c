# FCOS as AQD has it: mmdet's "center-normbbox-centeronreg-giou", with BN
# everywhere, never frozen, in GN's place; raw pixels.
_base_ = '../recipes/aqd.py'

model = dict(
    # ------------------------- often changed -------------------------
    bits='float',
    recipe=_base_.recipe,
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN'),
        norm_eval=False,
        style='pytorch',
    ),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        norm_cfg=dict(type='BN'),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0,
        ),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0
        ),
    ),
    # ----------------------- sometimes changed -----------------------
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_output',
        num_outs=5,
        relu_before_extra_convs=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
    # --------------------- hardly ever changed -----------------------
    type='aqd_mmdet.QuantizedDetector',
    detector='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # The integer program reads pixels minus whole numbers.
        mean=[124, 116, 104],
        std=[1, 1, 1],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
)
