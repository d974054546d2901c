# What all of mmdet's detectors on a ResNet and an FPN get. A config merges it
# into its `model` by `**_base_.aqd`, with the recipe of aqd_single_stage.py
# or aqd_two_stage.py.
_base_ = '../aqd_hooks.py'

aqd = dict(
    type='aqd_mmdet.QuantizedDetector',
    # The integer program reads pixels minus whole numbers.
    data_preprocessor=dict(mean=[124, 116, 104], std=[1, 1, 1]),
    backbone=dict(
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(type='aqd_mmdet.PretrainedRawImage'),
    ),
    # BN and ReLU in the pyramid, as AQD has them.
    neck=dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU')),
)
