# The rules of leaky.py, and for gates: what makes them at 8 bits, averages of
# whole maps, products.
_base_ = './leaky.py'

recipe = [
    *_base_.recipe,
    dict(
        modules='*.attention.fc',
        conv=dict(weight_bits=8, act_bits=8, act_grid='leaky'),
    ),
    dict(modules='*', pool=dict(bits=8, grid='leaky')),
    dict(modules='*', mul=dict(bits=8, grid='leaky')),
]
