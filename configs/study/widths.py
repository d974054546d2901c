# Which convolutions need more than 2 bits, and what 4, 3 and 2 bits reach when
# projections read 8: tools/study.py. It needs a CPU and the embedded dataset
# alone:
# python tools/make_digits.py --out data/digits
data = ['digits']
seed = [0, 1, 2]
model = ['retinanet']
training = [
    dict(bits='float', schedule='scratch'),
    dict(bits='float', schedule='long'),
    dict(bits=2, schedule='long'),
    dict(bits=4, schedule='long'),
    dict(bits=3, schedule='long'),
    dict(bits=2, recipe='activations_4', schedule='long'),
    dict(bits='float'),
    dict(bits=2),
    dict(bits=2, recipe='uniform'),
    dict(bits=2, recipe='shortcuts'),
    dict(bits=2, recipe='laterals'),
    dict(bits=2, recipe='projections_4'),
    dict(bits=2, recipe='projections_weights'),
    dict(bits=2, recipe='channels'),
    dict(bits=2, recipe='block_inputs'),
    dict(bits=2, recipe='activations_4'),
    dict(bits=2, schedule='double_rate'),
    # Whether 2 bits cost less in a detector of more channels.
    dict(bits='float', recipe='wide', schedule='scratch'),
    dict(bits='float', recipe='wide'),
    dict(bits=2, recipe='wide'),
    # Whether what is ahead after 5 epochs is so after 22.
    dict(bits='float', recipe='wide', schedule='long'),
    dict(bits=2, recipe='wide', schedule='long'),
    dict(bits=2, recipe='block_inputs', schedule='long'),
    dict(bits=2, schedule='double_rate_long'),
    # And in one of yet more.
    dict(bits='float', recipe='wider', schedule='scratch'),
    dict(bits='float', recipe='wider'),
    dict(bits=2, recipe='wider'),
]

# The detector of the quickstart.
config = '../digits/{model}_{data}_fp.py'

# The float detector trains for 14 epochs, the quickstart's quantised one for
# as long as `long`; `finetune` is short, so that many cells can be compared.
schedules = dict(
    scratch={},
    finetune={'train_cfg.max_epochs': 5},
    double_rate={
        'train_cfg.max_epochs': 5,
        'optim_wrapper.optimizer.lr': 4e-3,
    },
    long={'train_cfg.max_epochs': 22},
    double_rate_long={
        'train_cfg.max_epochs': 22,
        'optim_wrapper.optimizer.lr': 4e-3,
    },
)

# Overrides of the rules of _base_/recipes/aqd.py by their places: 0 all
# convolutions, 3 towers of the head, 6 projections.
recipes = dict(
    default={},
    # As published: all between the stem and the outputs have 2 bits.
    uniform={'model.recipe.6.conv': dict(_delete_=True)},
    # The projections of one kind alone.
    shortcuts={'model.recipe.6.modules': ['backbone.*.downsample.*']},
    laterals={'model.recipe.6.modules': ['neck.*lateral_convs.*']},
    # 4 bits in place of 8, and 8 in weights as well.
    projections_4={'model.recipe.6.conv.act_bits': 4},
    projections_weights={'model.recipe.6.conv.weight_bits': 8},
    # A clip value for each channel that a convolution of 2 bits reads.
    channels={
        'model.recipe.0.conv.act_per_channel': True,
        'model.recipe.3.conv.act_per_channel': True,
    },
    # What the blocks of the backbone read, too.
    block_inputs={
        'model.recipe.6.modules': [
            'backbone.*.downsample.*',
            'neck.*lateral_convs.*',
            'backbone.layer*.conv1',
        ]
    },
    # 4 bits in all activations that have 2.
    activations_4={
        'model.recipe.0.conv.act_bits': 4,
        'model.recipe.3.conv.act_bits': 4,
    },
    # Twice the channels.
    wide={
        'model.backbone.base_channels': 32,
        'model.neck.in_channels': [32, 64, 128, 256],
        'model.neck.out_channels': 96,
        'model.bbox_head.in_channels': 96,
        'model.bbox_head.feat_channels': 96,
    },
    # Three times the channels.
    wider={
        'model.backbone.base_channels': 48,
        'model.neck.in_channels': [48, 96, 192, 384],
        'model.neck.out_channels': 144,
        'model.bbox_head.in_channels': 144,
        'model.bbox_head.feat_channels': 144,
    },
)
