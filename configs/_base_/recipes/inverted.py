# AQD for inverted residuals (MobileNetV2): the narrow ends of its blocks have
# no activation, so that what reads them, and the sums of them, are signed.
recipe = [
    dict(modules='*', conv=dict()),
    dict(
        modules=[
            '*.expand_conv.conv',
            'backbone.conv2.conv',
            # The finest map comes from the end of a block.
            'bbox_head.*_convs.0.0.conv',
        ],
        conv=dict(act_grid='signed'),
    ),
    # The stem reads the 8-bit image.
    dict(
        modules='backbone.conv1.conv',
        conv=dict(weight_bits=8, act_grid='image'),
    ),
    # Output convolutions have 8 bits.
    dict(
        modules='bbox_head.*_convs.?.1', conv=dict(weight_bits=8, act_bits=8)
    ),
    dict(modules='*', add=dict(bits=8, signed=True)),
]
