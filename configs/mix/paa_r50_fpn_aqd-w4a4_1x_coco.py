# PAA without its vote of boxes, which averages them in float.
_base_ = [
    'mmdet::paa/paa_r50_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='PAA', bits=4, **_base_.aqd)
model['bbox_head'] = dict(score_voting=False, norm_cfg=dict(type='BN'))
default_hooks = _base_.aqd_hooks
