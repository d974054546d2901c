# As aqd_single_stage.py, for YOLOv3 and YOLOX: LeakyReLU and SiLU by tables.
_base_ = ['../aqd_hooks.py', '../recipes/leaky.py']

aqd = dict(type='aqd_mmdet.QuantizedDetector', recipe=_base_.recipe)
