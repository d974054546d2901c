# A RetinaNet with a quarter of the channels on the embedded dataset.
_base_ = [
    '../_base_/models/retinanet_r50_fpn_bn.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/digits_runtime.py',
]

model = dict(
    backbone=dict(depth=18, base_channels=16, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=48, num_outs=4),
    bbox_head=dict(
        num_classes=10,
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        anchor_generator=dict(
            # A digit's drawing is 16 to 56 pixels high, and taller than wide.
            octave_base_scale=2,
            scales_per_octave=2,
            ratios=[1.0, 1.7],
            strides=[8, 16, 32, 64],
        ),
    ),
)
