# YOLOv3: LeakyReLU by tables.
_base_ = [
    'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py',
    '../_base_/models/aqd_yolo.py',
]

model = dict(detector='YOLOV3', bits=4, **_base_.aqd)
model['data_preprocessor'] = dict(std=[1, 1, 1])
model['backbone'] = dict(
    norm_eval=False,
    # It was trained on images divided by 255.
    init_cfg=dict(
        type='aqd_mmdet.PretrainedRawImage',
        stem='conv1.conv',
        norm='conv1.bn',
        std=[255, 255, 255],
    ),
)
default_hooks = _base_.aqd_hooks
