# mmdet's RetinaNet as AQD needs it: BN everywhere, never frozen; raw pixels.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', '../recipes/aqd.py']

model = dict(
    type='aqd_mmdet.QuantizedDetector',
    detector='RetinaNet',
    recipe=_base_.recipe,
    bits='float',
    # The integer program reads pixels minus whole numbers.
    data_preprocessor=dict(mean=[124, 116, 104], std=[1, 1, 1]),
    backbone=dict(frozen_stages=-1, norm_eval=False),
    neck=dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU')),
    bbox_head=dict(norm_cfg=dict(type='BN')),
)
