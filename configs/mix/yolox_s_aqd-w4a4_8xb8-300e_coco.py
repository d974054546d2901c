# YOLOX-s: SiLU by tables.
_base_ = [
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
    '../_base_/models/aqd_yolo.py',
]

model = dict(detector='YOLOX', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
