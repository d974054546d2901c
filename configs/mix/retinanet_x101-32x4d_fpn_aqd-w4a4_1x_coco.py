# RetinaNet on ResNeXt.
_base_ = [
    'mmdet::retinanet/retinanet_x101-32x4d_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='RetinaNet', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
