# FreeAnchor.
_base_ = [
    'mmdet::free_anchor/freeanchor_r50_fpn_1x_coco.py',
    '../_base_/mix.py',
]

model = dict(detector='RetinaNet', **_base_.aqd)
default_hooks = _base_.aqd_hooks
