# RetinaNet-R18 on blood cells.
_base_ = [
    '../_base_/models/retinanet_r18_fpn64_bn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    bbox_head=dict(
        num_classes=3,
        # Cells are 15 to 130 pixels wide.
        anchor_generator=dict(octave_base_scale=3),
    )
)
