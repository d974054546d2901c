# AQD for two-stage detectors on an FPN: proposals and boxes leave at 8 bits,
# and regions are read from maps of 8 bits. A head of masks has to be left in
# float by one more rule (configs/mix/mask-rcnn_*.py).
recipe = [
    dict(modules='*', conv=dict()),
    # The stem reads the 8-bit image.
    dict(modules='backbone.conv1', conv=dict(weight_bits=8, act_grid='image')),
    dict(
        modules=[
            'rpn_head.rpn_cls',
            'rpn_head.rpn_reg',
            '*.fc_cls',
            '*.fc_reg',
        ],
        conv=dict(weight_bits=8, act_bits=8),
    ),
    dict(modules='*', add=dict(bits=8, signed=False)),
    dict(modules='roi_head.bbox_roi_extractor*', pool=dict(bits=8)),
    # Shortcuts between stages, and what enters the pyramid: see aqd.py.
    dict(
        modules=['backbone.*.downsample.*', 'neck.*lateral_convs.*'],
        conv=dict(act_bits=8),
    ),
]
