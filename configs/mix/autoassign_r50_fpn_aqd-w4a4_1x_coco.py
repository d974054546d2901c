# AutoAssign.
_base_ = [
    'mmdet::autoassign/autoassign_r50-caffe_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='AutoAssign', bits=4, **_base_.aqd)
# Its backbone was trained on BGR images.
model['data_preprocessor'].update(mean=[104, 116, 124])
model['backbone']['init_cfg'].update(std=[1, 1, 1])
default_hooks = _base_.aqd_hooks
