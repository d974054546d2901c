# An FCOS with a quarter of the channels on the embedded dataset.
_base_ = [
    '../_base_/models/fcos_r50_fpn_bn.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/digits_runtime.py',
]

model = dict(
    backbone=dict(depth=18, base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=48, num_outs=4),
    bbox_head=dict(
        num_classes=10,
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        strides=[8, 16, 32, 64],
        # A digit's drawing is 16 to 56 pixels high.
        regress_ranges=((-1, 20), (20, 40), (40, 80), (80, 1e8)),
    ),
)
