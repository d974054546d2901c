# What low bits cost, and what the way of training them brings: tools/study.py.
# Cells are all combinations; the first axes vary slowest, so that what matters
# most is done first.
data = ['bccd', 'digits']
seed = [0, 1, 2]
model = ['retinanet', 'fcos']
training = [
    dict(bits='float', schedule='scratch'),
    dict(bits=2),
    dict(bits=4),
    dict(bits='float'),
    dict(bits=3),
    dict(bits=8),
    dict(bits=2, recipe='teacher'),
    dict(bits=2, recipe='paper'),
    dict(bits=2, recipe='uniform'),
    dict(bits=4, recipe='uniform'),
    dict(bits=3, recipe='uniform'),
]

# File of a cell's config, beside this one.
config = '{model}_{data}.py'

# Overrides of that config. What is not from scratch starts from the float
# detector that is, of the same model, data and seed.
schedules = dict(
    scratch={
        'train_cfg.max_iters': 500,
        'param_scheduler.1.end': 500,
        'optim_wrapper.optimizer.lr': 1e-3,
    },
    finetune={
        'train_cfg.max_iters': 400,
        'param_scheduler.1.end': 400,
        'optim_wrapper.optimizer.lr': 1e-3,
    },
)
recipes = dict(
    default={},
    # The float detector that a training starts from teaches it.
    teacher={'default_hooks.teacher.type': 'aqd_mmdet.TeacherHook'},
    # As published: projections have the widths of all other convolutions.
    uniform={'model.recipe.6.conv': dict(_delete_=True)},
    # The same, and where the publication starts, with decaying clip values and
    # sums that keep all bits.
    paper={
        'default_hooks.calibration.start': 'paper',
        'optim_wrapper.paramwise_cfg.custom_keys': {
            '.clip': dict(decay_mult=1)
        },
        'model.recipe.4.add.bits': 16,
        'model.recipe.6.conv': dict(_delete_=True),
    },
)
