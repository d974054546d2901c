# SSDLite on MobileNetV2: depthwise convolutions, ReLU6.
_base_ = [
    'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    '../_base_/aqd_hooks.py',
    '../_base_/recipes/inverted.py',
]

model = dict(
    type='aqd_mmdet.QuantizedDetector',
    detector='SingleStageDetector',
    recipe=_base_.recipe,
    bits=4,
    data_preprocessor=dict(mean=[124, 116, 104], std=[1, 1, 1]),
    bbox_head=dict(type='aqd_mmdet.SSDHead'),
)
default_hooks = _base_.aqd_hooks
