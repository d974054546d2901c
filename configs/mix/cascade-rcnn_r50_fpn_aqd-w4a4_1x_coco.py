# Cascade R-CNN: proposals, regions and boxes on integers.
_base_ = [
    'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    '../_base_/models/aqd_two_stage.py',
]

model = dict(detector='CascadeRCNN', bits=4, **_base_.aqd)
default_hooks = _base_.aqd_hooks
