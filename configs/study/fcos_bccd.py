# FCOS-R18 on blood cells.
_base_ = [
    '../_base_/models/fcos_r18_fpn64_bn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    bbox_head=dict(
        num_classes=3,
        # Cells are 15 to 130 pixels wide.
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 1e8)),
    )
)
