# RetinaNet-R50 in float with BN in FPN and head: where quantisation starts.
_base_ = [
    '../_base_/retinanet_bn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='aqd_mmdet.PretrainedRawImage',
            checkpoint='torchvision://resnet50',
        )
    )
)
train_dataloader = dict(persistent_workers=False)  # so that resuming is exact

# The published schedule: 16 images a step, 1000 steps of warm-up, SyncBN.
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(custom_keys={'.clip': dict(decay_mult=0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000),
    dict(type='MultiStepLR', end=12, milestones=[8, 11]),
]
sync_bn = 'torch'
