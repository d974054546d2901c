# RetinaNet with PISA.
_base_ = [
    'mmdet::pisa/retinanet-r50_fpn_pisa_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='RetinaNet', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
