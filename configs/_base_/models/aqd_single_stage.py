# Makes a config of mmdet that of a quantised detector: a dense head on an FPN
# and a ResNet. Merged into `model` by `**_base_.aqd`.
_base_ = ['./aqd_resnet_fpn.py', '../recipes/aqd.py']

aqd = dict(
    recipe=_base_.recipe,
    # BN in the head, as AQD has it.
    bbox_head=dict(norm_cfg=dict(type='BN')),
)
