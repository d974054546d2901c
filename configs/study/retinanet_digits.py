# RetinaNet-R18 on scenes of digits.
_base_ = [
    '../_base_/models/retinanet_r18_fpn64_bn.py',
    '../_base_/datasets/hard_digits_detection.py',
    '../_base_/schedules/study.py',
    '../_base_/study_runtime.py',
]

model = dict(
    bbox_head=dict(
        num_classes=10,
        anchor_generator=dict(
            # A digit's drawing is 12 to 56 pixels high, and taller than wide.
            octave_base_scale=2,
            scales_per_octave=2,
            ratios=[1.0, 1.7],
        ),
    )
)
