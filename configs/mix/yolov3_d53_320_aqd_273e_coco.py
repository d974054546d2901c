# YOLOv3: LeakyReLU by tables.
_base_ = [
    'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py',
    '../_base_/aqd_hooks.py',
    '../_base_/recipes/leaky.py',
]

model = dict(
    type='aqd_mmdet.QuantizedDetector',
    detector='YOLOV3',
    recipe=_base_.recipe,
    bits=4,
    data_preprocessor=dict(std=[1, 1, 1]),
    backbone=dict(norm_eval=False),
)
# Its backbone was trained on images divided by 255.
raw = dict(type='aqd_mmdet.PretrainedRawImage', std=[255, 255, 255])
model['backbone']['init_cfg'] = dict(stem='conv1.conv', **raw)
default_hooks = _base_.aqd_hooks
