# The published schedule: 16 images a step, 1000 steps of warm-up, SyncBN;
# quantised detectors take a tenth of the rate.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(custom_keys={'.clip': dict(decay_mult=0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000),
    dict(type='MultiStepLR', end=12, milestones=[8, 11]),
]
sync_bn = 'torch'
