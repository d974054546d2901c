custom_imports = dict(
    imports=['aqd_mmdet.models', 'aqd_mmdet.engine', 'aqd_mmdet.datasets'],
    allow_failed_imports=False,
)
# For `default_hooks`, which inherit key by key: a config's own `custom_hooks`
# do not replace them.
aqd_hooks = dict(
    epoch_seed=dict(type='aqd_mmdet.EpochSeedHook'),
    # start='paper' begins where the publication did.
    calibration=dict(
        type='aqd_mmdet.CalibrationHook', batches=10, start='mse'
    ),
    # Needs a C++ compiler, or Triton on a GPU; without one it only warns.
    compile_quantizers=dict(type='aqd_mmdet.CompileQuantizersHook'),
    quantizer_log=dict(type='aqd_mmdet.QuantizerLogHook'),
    # Validation and test run the integer program of a quantised detector.
    integer_aware=dict(type='aqd_mmdet.IntegerAwareHook'),
)
