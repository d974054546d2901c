# RTMDet-tiny: SiLU and the gates of its attention by tables.
_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    '../_base_/aqd_hooks.py',
    '../_base_/recipes/attention.py',
]

model = dict(
    type='aqd_mmdet.QuantizedDetector',
    detector='RTMDet',
    recipe=_base_.recipe,
    integer=_base_.integer,
    bits=4,
    data_preprocessor=dict(mean=[104, 116, 124], std=[1, 1, 1]),
    backbone=dict(),
)
raw = dict(type='aqd_mmdet.PretrainedRawImage', stem='stem.0.conv')
model['backbone']['init_cfg'] = dict(std=[57.375, 57.12, 58.395], **raw)
custom_hooks = [*_base_.custom_hooks, *_base_.aqd_hooks]
