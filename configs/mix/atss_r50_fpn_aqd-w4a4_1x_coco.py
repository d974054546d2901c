# ATSS: a norm per level in place of GN.
_base_ = [
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='ATSS', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
