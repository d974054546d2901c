# FCOS-R18 with 64 channels in pyramid and head, on scenes of digits.
_base_ = [
    '../_base_/models/fcos_r50_fpn_bn.py',
    '../_base_/datasets/hard_digits_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32, 64],
        # A digit's drawing is 12 to 56 pixels high.
        regress_ranges=((-1, 20), (20, 40), (40, 80), (80, 1e8)),
    ),
)
