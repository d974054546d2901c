# FoveaBox.
_base_ = [
    'mmdet::foveabox/fovea_r50_fpn_4xb4-1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='FOVEA', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
