# RetinaNet-R18 with 64 channels in pyramid and head, on scenes of digits.
_base_ = [
    '../_base_/models/retinanet_r50_fpn_bn.py',
    '../_base_/datasets/hard_digits_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    backbone=dict(depth=18, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(
            # A digit's drawing is 12 to 56 pixels high, and taller than wide.
            octave_base_scale=2,
            scales_per_octave=2,
            ratios=[1.0, 1.7],
            strides=[8, 16, 32, 64],
        ),
    ),
)
