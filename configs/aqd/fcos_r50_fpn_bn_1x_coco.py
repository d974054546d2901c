# FCOS-R50 in float with BN in FPN and head: where quantisation starts.
_base_ = [
    '../_base_/models/fcos_r50_fpn_bn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/aqd_1x.py',
    '../_base_/aqd_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='aqd_mmdet.PretrainedRawImage',
            checkpoint='torchvision://resnet50',
        )
    )
)
