# VFNet.
_base_ = ['mmdet::vfnet/vfnet_r50_fpn_1x_coco.py', '../_base_/mix.py']

model = dict(detector='VFNet', **_base_.aqd)
default_hooks = _base_.aqd_hooks
