# What low bits cost where most people begin: photographs of their own, and a
# backbone that was trained on ImageNet. tools/study.py; it needs no GPU.
data = ['bccd']
seed = [0, 1, 2]
model = ['mobilenet']
training = [
    dict(bits='float', schedule='scratch'),
    dict(bits='float'),
    dict(bits=2),
    dict(bits=4),
    dict(bits=8),
    # Whether convolutions that read the narrow ends of blocks need 8 bits.
    dict(bits=2, recipe='expansions'),
]

config = '{model}_{data}.py'

# Those of low_bits.py. From scratch but for the backbone.
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
    # By the places of their rules in mobilenet_bccd.py.
    expansions={
        'model.recipe.1.conv.act_bits': 8,
        'model.recipe.2.conv.act_bits': 8,
    },
)
