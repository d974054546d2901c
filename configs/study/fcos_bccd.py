# FCOS-R18 with 64 channels in pyramid and head, on blood cells.
_base_ = [
    '../_base_/models/fcos_r50_fpn_bn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32, 64],
        # Cells are 15 to 130 pixels wide.
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 1e8)),
    ),
)
