# The rules of leaky.py, and for gates: averages of whole maps, products.
_base_ = './leaky.py'

recipe = [
    dict(modules='*', conv=dict(act_grid='leaky')),
    # The stem reads the 8-bit image.
    dict(
        modules='backbone.stem.0.conv',
        conv=dict(weight_bits=8, act_grid='image'),
    ),
    # What makes gates, and the output convolutions.
    dict(
        modules=['*.attention.fc', 'bbox_head.rtm_*'],
        conv=dict(weight_bits=8, act_bits=8, act_grid='leaky'),
    ),
    dict(modules='*', add=dict(bits=8, signed=True)),
    dict(modules='*', act=dict(bits=8)),
    dict(modules='*', pool=dict(bits=8, grid='leaky')),
    dict(modules='*', mul=dict(bits=8, grid='leaky')),
]
