# ATSS: a norm per level in place of GN.
_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', '../_base_/mix.py']

model = dict(detector='ATSS', **_base_.aqd)
default_hooks = _base_.aqd_hooks
