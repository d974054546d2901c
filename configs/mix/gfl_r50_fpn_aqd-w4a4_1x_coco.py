# GFL: the mean of its distributions is taken in integers.
_base_ = [
    'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='GFL', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
