custom_imports = dict(
    imports=['aqd_mmdet.models', 'aqd_mmdet.engine', 'aqd_mmdet.datasets'],
    allow_failed_imports=False,
)
aqd_hooks = [
    dict(type='aqd_mmdet.EpochSeedHook'),
    # start='paper' begins where the publication did.
    dict(type='aqd_mmdet.CalibrationHook', batches=10, start='mse'),
    dict(type='aqd_mmdet.QuantizerLogHook'),
    # Validation and test run the integer program of a quantised detector.
    dict(type='aqd_mmdet.IntegerAwareHook'),
]
