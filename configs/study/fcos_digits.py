# FCOS-R18 on scenes of digits.
_base_ = [
    '../_base_/models/fcos_r18_fpn64_bn.py',
    '../_base_/datasets/hard_digits_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    bbox_head=dict(
        num_classes=10,
        # A digit's drawing is 12 to 56 pixels high.
        regress_ranges=((-1, 20), (20, 40), (40, 80), (80, 1e8)),
    )
)
