# CenterNet-update.
_base_ = [
    'mmdet::centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='CenterNet', bits=4, **_base_.aqd)
# Its backbone was trained on BGR images.
model['data_preprocessor'].update(mean=[104, 116, 124])
model['backbone']['init_cfg'].update(std=[1, 1, 1])
default_hooks = _base_.aqd_hooks
