# As aqd_single_stage.py, for RTMDet: SiLU and the gates of its attention by
# tables.
_base_ = ['../aqd_hooks.py', '../recipes/attention.py']

aqd = dict(
    type='aqd_mmdet.QuantizedDetector',
    recipe=_base_.recipe,
    # Its images are BGR.
    data_preprocessor=dict(mean=[104, 116, 124], std=[1, 1, 1]),
    backbone=dict(
        init_cfg=dict(
            type='aqd_mmdet.PretrainedRawImage',
            stem='stem.0.conv',
            norm='stem.0.bn',
            std=[57.375, 57.12, 58.395],
        )
    ),
)
