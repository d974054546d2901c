# What each part of the recipe is worth at 2 bits: tools/study.py. It needs a
# CPU and the embedded dataset alone:
# python tools/make_digits.py --out data/digits
data = ['digits']
seed = [0, 1, 2]
model = ['retinanet']
training = [
    dict(bits='float', schedule='scratch'),
    dict(bits=2),
    dict(bits='float'),
    dict(bits='float', schedule='double_rate'),
    dict(bits=2, schedule='double_rate'),
    dict(bits=2, schedule='quadruple_rate'),
    dict(bits=2, schedule='half_rate'),
    dict(bits=2, schedule='quarter_rate'),
    dict(bits=2, recipe='averaged'),
    dict(bits=2, recipe='teacher'),
    dict(bits='float', schedule='scratch', recipe='shared_norms'),
    dict(bits=2, recipe='shared_norms'),
    dict(bits='float', schedule='scratch', recipe='group_norm'),
    dict(bits=2, recipe='group_norm'),
    dict(bits=2, recipe='paper'),
    dict(bits=2, recipe='paper_start'),
    *(
        dict(
            bits=bits,
            recipe='lsq',
            start=dict(
                bits='float', recipe='shared_norms', schedule='scratch'
            ),
        )
        for bits in (4, 2)
    ),
    dict(bits=2, recipe='clip_decay'),
    dict(bits=2, recipe='clip_rate'),
    dict(bits=2, recipe='small_batch'),
    dict(bits='float', recipe='small_batch'),
    dict(bits=2, recipe='plain_weights'),
    dict(bits=2, recipe='channel_clips'),
    dict(bits=2, recipe='adders_16'),
    dict(bits=2, recipe='adders_4'),
    dict(bits=2, recipe='outer_layers'),
    dict(bits=2, recipe='weights'),
    dict(bits=2, recipe='weights_4'),
    dict(bits=2, recipe='body_4'),
    dict(bits=2, recipe='towers_4'),
    dict(bits=2, recipe='activations'),
    dict(bits=4),
    dict(bits=3),
    dict(bits=8),
    dict(bits='float', recipe='shared_norms'),
    dict(bits='float', recipe='group_norm'),
    # As long as the quickstart's.
    dict(bits='float', schedule='long'),
    dict(bits=4, schedule='long'),
    dict(bits=3, schedule='long'),
    dict(bits=2, schedule='long'),
    dict(bits=2, schedule='long_double_rate'),
    dict(bits=2, recipe='weights_4', schedule='long'),
    # From 4 bits to 2, in as many epochs as the others.
    dict(bits=4, schedule='two_epochs'),
    dict(
        bits=2,
        schedule='three_epochs',
        start=dict(bits=4, schedule='two_epochs'),
    ),
]

# The detector of the quickstart, with the published widths.
config = '{model}_{data}_uniform.py'

# The float detector trains as long as the quickstart's; 750 steps follow.
schedules = dict(
    scratch={},
    finetune={'train_cfg.max_epochs': 5},
    double_rate={
        'train_cfg.max_epochs': 5,
        'optim_wrapper.optimizer.lr': 4e-3,
    },
    quadruple_rate={
        'train_cfg.max_epochs': 5,
        'optim_wrapper.optimizer.lr': 8e-3,
    },
    half_rate={
        'train_cfg.max_epochs': 5,
        'optim_wrapper.optimizer.lr': 1e-3,
    },
    quarter_rate={
        'train_cfg.max_epochs': 5,
        'optim_wrapper.optimizer.lr': 5e-4,
    },
    long={'train_cfg.max_epochs': 22},
    long_double_rate={
        'train_cfg.max_epochs': 22,
        'optim_wrapper.optimizer.lr': 4e-3,
    },
    two_epochs={'train_cfg.max_epochs': 2},
    three_epochs={'train_cfg.max_epochs': 3},
)

# Overrides of the rules of _base_/recipes/aqd.py by their places: 0 all
# convolutions, 1 the stem, 2 outputs of the head, 3 its towers, 4 adders. What
# has not its rule 5, a norm for each level, repeats the others.
recipes = dict(
    default={},
    # Weights, clip values and statistics averaged over some 100 steps.
    averaged={
        'custom_hooks': [
            dict(
                type='EMAHook',
                momentum=0.01,
                update_buffers=True,
                priority='ABOVE_NORMAL',
            )
        ]
    },
    # The float detector that a training starts from teaches it.
    teacher={'default_hooks.teacher.type': 'aqd_mmdet.TeacherHook'},
    # All levels share the norms of the towers.
    shared_norms={
        'model.recipe': [
            dict(modules='*', conv=dict()),
            dict(
                modules='backbone.conv1',
                conv=dict(weight_bits=8, act_grid='image'),
            ),
            dict(modules='bbox_head.*', conv=dict(weight_bits=8, act_bits=8)),
            dict(modules='bbox_head.*_convs.*', conv=dict()),
            dict(modules='*', add=dict(bits=8, signed=False)),
        ]
    },
    # Group norms, whose statistics are those of each map; rules below.
    group_norm={'model.bbox_head.norm_cfg': dict(type='GN', num_groups=8)},
    # Where the publication starts, with decaying clip values and sums that
    # keep all bits; then each of the three alone.
    paper={
        'default_hooks.calibration.start': 'paper',
        'optim_wrapper.paramwise_cfg.custom_keys': {
            '.clip': dict(decay_mult=1)
        },
        'model.recipe.4.add.bits': 16,
    },
    # Learned steps with their usual start, and nothing of AQD: weights are not
    # normalised, levels share norms, sums keep all bits.
    lsq={
        'default_hooks.calibration.start': 'lsq',
        'model.recipe': [
            dict(modules='*', conv=dict(normalize=False)),
            dict(
                modules='backbone.conv1',
                conv=dict(weight_bits=8, act_grid='image', normalize=False),
            ),
            dict(modules='bbox_head.*', conv=dict(weight_bits=8, act_bits=8)),
            dict(modules='bbox_head.*_convs.*', conv=dict(normalize=False)),
            dict(modules='*', add=dict(bits=16, signed=False)),
        ],
    },
    paper_start={'default_hooks.calibration.start': 'paper'},
    clip_decay={
        'optim_wrapper.paramwise_cfg.custom_keys': {
            '.clip': dict(decay_mult=1)
        }
    },
    clip_rate={
        'optim_wrapper.paramwise_cfg.custom_keys': {
            '.clip': dict(decay_mult=0, lr_mult=5)
        }
    },
    # Twice as many steps of half as many images.
    small_batch={'train_dataloader.batch_size': 4},
    adders_16={'model.recipe.4.add.bits': 16},
    adders_4={'model.recipe.4.add.bits': 4},
    plain_weights={
        'model.recipe.0.conv.normalize': False,
        'model.recipe.1.conv.normalize': False,
        'model.recipe.3.conv.normalize': False,
    },
    channel_clips={
        'model.recipe.0.conv.per_channel': True,
        'model.recipe.1.conv.per_channel': True,
        'model.recipe.2.conv.per_channel': True,
        'model.recipe.3.conv.per_channel': True,
    },
    # 2 bits in weights alone, or in activations alone; the others have 8.
    weights={
        'model.recipe.0.conv.act_bits': 8,
        'model.recipe.3.conv.act_bits': 8,
    },
    # 4 bits in activations.
    weights_4={
        'model.recipe.0.conv.act_bits': 4,
        'model.recipe.3.conv.act_bits': 4,
    },
    # The same in a part alone: backbone and pyramid, or the head's towers.
    body_4={'model.recipe.0.conv.act_bits': 4},
    towers_4={'model.recipe.3.conv.act_bits': 4},
    activations={
        'model.recipe.0.conv.weight_bits': 8,
        'model.recipe.3.conv.weight_bits': 8,
    },
    # 2 bits in the stem's weights and in the output convolutions as well.
    outer_layers={
        'model.recipe.1.conv.weight_bits': 2,
        'model.recipe.2.conv.weight_bits': 2,
        'model.recipe.2.conv.act_bits': 2,
    },
)
recipes['group_norm']['model.recipe'] = [
    *recipes['shared_norms']['model.recipe'],
    dict(modules='*', type='GroupNorm', group_norm=dict()),
]
