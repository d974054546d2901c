# RetinaNet with GHM losses.
_base_ = ['mmdet::ghm/retinanet_r50_fpn_ghm-1x_coco.py', '../_base_/mix.py']

model = dict(detector='RetinaNet', **_base_.aqd)
default_hooks = _base_.aqd_hooks
