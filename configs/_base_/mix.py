# What turns a config of mmdet into one of a quantised detector: merged into
# its `model` by `**_base_.aqd`. Train it with model.bits=float first, then
# with load_from=... of the float detector.
_base_ = ['./mix_resnet.py', './recipes/aqd.py']

aqd = dict(
    recipe=_base_.recipe,
    # BN in the head, as AQD has it.
    bbox_head=dict(norm_cfg=dict(type='BN')),
)
