# From scratch, so AdamW and a higher rate than the published SGD.
train_cfg = dict(
    type='EpochBasedTrainLoop',
    max_epochs=14,
    val_interval=100,  # the last epoch is validated in any case
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
    paramwise_cfg=dict(custom_keys={'.clip': dict(decay_mult=0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=60),
    dict(
        type='CosineAnnealingLR',  # to the last epoch
        eta_min=2e-5,
        convert_to_iter_based=True,
    ),
]
