# Mask R-CNN: boxes on integers; the head of its masks stays float.
_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    '../_base_/mix_regions.py',
]

model = dict(detector='MaskRCNN', **_base_.aqd)
default_hooks = _base_.aqd_hooks
