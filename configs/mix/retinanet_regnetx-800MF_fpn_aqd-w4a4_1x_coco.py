# RetinaNet on RegNet.
_base_ = [
    'mmdet::regnet/retinanet_regnetx-800MF_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='RetinaNet', bits=4, **_base_.aqd)
# Its backbone was trained on BGR images, of deviations in this order.
model['data_preprocessor'].update(mean=[104, 116, 124])
model['backbone']['init_cfg'].update(std=[57.375, 57.12, 58.395])
default_hooks = _base_.aqd_hooks
