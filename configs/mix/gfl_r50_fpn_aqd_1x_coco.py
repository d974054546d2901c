# GFL: the mean of its distributions is taken in integers.
_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/mix.py']

model = dict(detector='GFL', **_base_.aqd)
default_hooks = _base_.aqd_hooks
