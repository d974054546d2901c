# Mask R-CNN: boxes on integers; the head of its masks stays float.
_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    '../_base_/models/aqd_two_stage.py',
]

model = dict(detector='MaskRCNN', bits=4, **_base_.aqd)
model['recipe'] = [
    *_base_.recipe,
    dict(modules='roi_head.mask_*', float=True),
]
default_hooks = _base_.aqd_hooks
