# Faster R-CNN: proposals, regions and boxes on integers.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    '../_base_/mix_regions.py',
]

model = dict(detector='FasterRCNN', **_base_.aqd)
default_hooks = _base_.aqd_hooks
