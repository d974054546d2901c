# As mix.py, for two-stage detectors.
_base_ = ['./mix_resnet.py', './recipes/regions.py']

aqd = dict(recipe=_base_.recipe)
