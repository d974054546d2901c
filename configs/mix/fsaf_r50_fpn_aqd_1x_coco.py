# FSAF.
_base_ = ['mmdet::fsaf/fsaf_r50_fpn_1x_coco.py', '../_base_/mix.py']

model = dict(detector='FSAF', **_base_.aqd)
default_hooks = _base_.aqd_hooks
