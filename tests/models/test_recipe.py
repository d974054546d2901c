import pytest
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers.add import AddOptions
from aqd_mmdet.layers.multi_level_norm import NormOptions
from aqd_mmdet.layers.weighted import ConvOptions
from aqd_mmdet.models.recipe import choose, read_recipe


def modules():
    return {
        'backbone.conv1': nn.Conv2d(3, 8, 3),
        'neck.lateral': nn.Conv2d(8, 8, 1),
        'head.fc': nn.Linear(8, 8),
    }


def test_last_match_wins():
    rules = read_recipe(
        [
            dict(modules='*', conv=dict()),
            dict(modules='backbone.*', conv=dict(weight_bits=8)),
            dict(modules='neck.*', float=True),
        ]
    )
    assert choose(rules, 'conv', modules()) == {
        'backbone.conv1': ConvOptions(weight_bits=8),
        'head.fc': ConvOptions(),
    }


def test_type_and_several_globs():
    rules = read_recipe(
        [
            dict(modules=['neck.*', 'head.*'], type='Linear', conv=dict()),
        ]
    )
    assert list(choose(rules, 'conv', modules())) == ['head.fc']


def test_kinds():
    rules = read_recipe(
        [
            dict(add=dict(bits=16, signed=True)),
            dict(modules='x', norm=dict(num_levels=3)),
        ]
    )
    assert rules[0].choice == AddOptions(16, True)
    assert rules[1].choice == NormOptions(3)


@pytest.mark.parametrize(
    'recipe, message',
    [
        ('conv', 'not a list'),
        (['conv'], 'rule 0 .* not a dict'),
        ([dict(norm=dict(type='BN'))], "norm has no option 'type'"),
        (
            [dict(modules='*')],
            'must say exactly one of conv, add, mul, act, pool, group_norm, '
            'norm, float',
        ),
        ([dict(conv={}, add={})], 'it says conv, add'),
        ([dict(module='*', conv={})], "'module' .*nearest: modules"),
        ([dict(conv=dict(bits=2))], "conv has no option 'bits'"),
        ([dict(conv=2)], 'conv=2 is not a dict'),
        ([dict(modules=3, conv={})], 'rule 0 .*modules=3 is neither a glob'),
        ([dict(modules=['*', 3], conv={})], 'is neither a glob nor a list'),
        ([dict(modules=[], conv={})], 'is neither a glob nor a list'),
        ([dict(conv=dict(act_grid=3))], 'act_grid=3: expected str'),
        ([dict(conv=dict(per_channel='false'))], "='false': expected bool"),
        (
            [dict(conv=dict(normalize=1))],
            'normalize=1: expected bool .{1,2} None',
        ),
        ([dict(add=dict(signed=0))], 'add has signed=0: expected bool'),
        ([dict(float=False)], 'float=True'),
        ([dict(conv=dict(weight_bits=1))], 'rule 0 .*weight_bits=1'),
        ([dict(conv=dict(act_bits='2'))], "act_bits='2'"),
        ([dict(conv=dict(act_grid='odds'))], 'nearest: odd'),
        ([dict(conv=dict(act_grid='odd'))], "rule 0 .*the grid 'odd' has"),
        ([dict(mul=dict(grid='odd'))], "rule 0 .*the grid 'odd' has"),
        ([dict(pool=dict(grid='odd'))], "rule 0 .*the grid 'odd' has"),
        ([dict(group_norm=dict(grid='odd'))], "rule 0 .*the grid 'odd' has"),
        ([dict(add=dict(bits=9))], 'bits=9'),
    ],
)
def test_mistakes(recipe, message):
    with pytest.raises(UserError, match=message):
        read_recipe(recipe)


def test_unmatched_rule_names_itself_and_the_nearest():
    rules = read_recipe(
        [
            dict(conv=dict()),
            dict(modules='backbone.conv2', conv=dict()),
        ]
    )
    with pytest.raises(
        UserError,
        match=r'rule 1 of the recipe \(backbone.conv2\) matches no '
        r'module with a conv \(nearest: backbone.conv1',
    ):
        choose(rules, 'conv', modules())


def test_unmatched_type():
    rules = read_recipe([dict(type='Conv4d', conv=dict())])
    with pytest.raises(UserError, match='of type Conv4d'):
        choose(rules, 'conv', modules())
