# PAA without its vote of boxes, which averages them in float.
_base_ = ['mmdet::paa/paa_r50_fpn_1x_coco.py', '../_base_/mix.py']

model = dict(detector='PAA', **_base_.aqd)
model['bbox_head'] = dict(score_voting=False, norm_cfg=dict(type='BN'))
default_hooks = _base_.aqd_hooks
