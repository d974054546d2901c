# FCOS-R50 in float with BN in FPN and head: where quantisation starts.
_base_ = ['../_base_/fcos_bn.py', '../_base_/coco_1x.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='aqd_mmdet.PretrainedRawImage',
            checkpoint='torchvision://resnet50',
        )
    )
)
