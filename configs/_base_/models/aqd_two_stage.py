# As aqd_single_stage.py, for two-stage detectors.
_base_ = ['./aqd_resnet_fpn.py', '../recipes/regions.py']

aqd = dict(recipe=_base_.recipe)
