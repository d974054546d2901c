# What low bits cost where most people begin: photographs of their own, and a
# backbone that was trained on ImageNet. tools/study.py; it needs no GPU. It
# trains for as long as the study that it inherits; in `scratch`, all but the
# backbone starts from scratch.
_base_ = './low_bits.py'

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

recipes = dict(
    _delete_=True,
    default={},
    # By the places of their rules in mobilenet_bccd.py.
    expansions={
        'model.recipe.1.conv.act_bits': 8,
        'model.recipe.2.conv.act_bits': 8,
    },
)
