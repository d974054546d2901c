# For detectors whose activations are no clamp (SiLU, LeakyReLU): they become
# tables, and an eighth of the codes behind them is negative. The stem reads
# the 8-bit image, output convolutions have 8 bits.
recipe = [
    dict(modules='*', conv=dict(act_grid='leaky')),
    dict(
        modules=[
            'backbone.stem.conv.conv',
            'backbone.conv1.conv',
            'backbone.stem.0.conv',
        ],
        conv=dict(weight_bits=8, act_grid='image'),
    ),
    dict(
        modules=[
            'bbox_head.multi_level_conv_*',
            'bbox_head.convs_pred.*',
            'bbox_head.rtm_*',
        ],
        conv=dict(weight_bits=8, act_bits=8, act_grid='leaky'),
    ),
    dict(modules='*', add=dict(bits=8, signed=True)),
    dict(modules='*', act=dict(bits=8)),
]
