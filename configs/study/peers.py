# The recipe beside the quantisers of other libraries in the same detector, on
# the same data, for as long: tools/study.py. It needs a CPU, the embedded
# dataset and Brevitas:
# python tools/make_digits.py --out data/digits
data = ['digits']
seed = [1, 0, 2]
model = ['retinanet']
training = [
    dict(bits='float', schedule='scratch'),
    dict(bits='float'),
    *(dict(bits=bits) for bits in (8, 4, 2)),
    *(dict(bits=bits, recipe='brevitas') for bits in (2, 4, 8)),
    dict(bits=8, recipe='pytorch'),
]

# The detector of the quickstart.
config = '../digits/{model}_{data}_fp.py'

# The float detector trains for 14 epochs.
schedules = dict(scratch={}, finetune={'train_cfg.max_epochs': 5})

# Convolutions alone are exchanged, but for the stem, which reads pixels. Their
# widths stay, and so do quantised sums and the norm for each level.
recipes = dict(
    default={},
    brevitas=dict(library='brevitas'),
    pytorch=dict(library='pytorch'),
)
