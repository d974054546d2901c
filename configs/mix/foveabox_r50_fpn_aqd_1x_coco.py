# FoveaBox.
_base_ = ['mmdet::foveabox/fovea_r50_fpn_4xb4-1x_coco.py', '../_base_/mix.py']

model = dict(detector='FOVEA', **_base_.aqd)
default_hooks = _base_.aqd_hooks
