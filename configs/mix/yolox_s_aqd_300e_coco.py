# YOLOX-s: SiLU by tables.
_base_ = [
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
    '../_base_/aqd_hooks.py',
    '../_base_/recipes/leaky.py',
]

model = dict(
    type='aqd_mmdet.QuantizedDetector',
    detector='YOLOX',
    recipe=_base_.recipe,
    bits=4,
)
default_hooks = _base_.aqd_hooks
