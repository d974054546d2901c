# RetinaNet with PISA.
_base_ = ['mmdet::pisa/retinanet-r50_fpn_pisa_1x_coco.py', '../_base_/mix.py']

model = dict(detector='RetinaNet', **_base_.aqd)
default_hooks = _base_.aqd_hooks
