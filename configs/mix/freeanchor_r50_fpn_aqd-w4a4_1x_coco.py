# FreeAnchor.
_base_ = [
    'mmdet::free_anchor/freeanchor_r50_fpn_1x_coco.py',
    '../_base_/models/aqd_single_stage.py',
]

model = dict(detector='RetinaNet', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
