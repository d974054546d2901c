"""Widths that are chosen for noise and cost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.models.recipe import read_recipe
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.stems import find_stems
from aqd_mmdet.post_training.widths import (
    Option,
    choose_widths,
    options_of_layers,
    total_cost,
    with_widths,
)
from tests.post_training.small import small

NUMBERS = st.integers(0, 1000)
LAYERS = st.dictionaries(
    st.sampled_from('abcdef'),
    st.lists(
        st.builds(Option, st.integers(2, 8), NUMBERS, NUMBERS),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
)


def least(options):
    return sum(min(o.cost for o in each) for each in options.values())


def noise(chosen):
    return sum(option.noise for option in chosen.values())


@given(LAYERS, NUMBERS, NUMBERS)
def test_a_limit_is_kept_and_more_is_never_noisier(options, first, more):
    small_limit = least(options) + first
    tight = choose_widths(options, small_limit)
    loose = choose_widths(options, small_limit + more)
    assert total_cost(tight) <= small_limit
    assert tight.keys() == options.keys()
    assert all(tight[name] in each for name, each in options.items())
    assert noise(loose) <= noise(tight)


@given(LAYERS, NUMBERS)
def test_nothing_of_that_cost_has_less_noise(options, room):
    chosen = choose_widths(options, least(options) + room)
    cost = total_cost(chosen)
    # Least noise by cost, over all choices.
    best = {0: 0}
    for each in options.values():
        sums: dict[int, int] = {}
        for spent, made in best.items():
            for o in each:
                key = spent + o.cost
                sums[key] = min(sums.get(key, 10**9), made + o.noise)
        best = sums
    assert noise(chosen) == min(n for c, n in best.items() if c <= cost)


@given(LAYERS)
def test_below_the_least_it_is_refused(options):
    with pytest.raises(UserError, match='cheapest'):
        choose_widths(options, least(options) - 1)


def test_without_need_nothing_is_narrowed():
    options = {'a': [Option(8, 1, 8), Option(4, 2, 4)]}
    assert choose_widths(options, 8) == {'a': options['a'][0]}
    assert choose_widths(options, 7) == {'a': options['a'][1]}


def test_a_recipe_names_a_width_for_each_layer():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 6)
    layers = options_of_layers(detector, recipe)
    widths = {'stem': 8, 'depthwise': 5, 'bbox_head.output': 3}
    assert layers.keys() == widths.keys()
    mixed = with_widths(recipe, layers, widths)
    assert len(read_recipe(mixed)) == len(mixed) == 4
    assert {
        name: rule['conv']['weight_bits']
        for rule in mixed
        if 'conv' in rule
        for name in rule['modules']
    } == widths
    # All but the widths stays.
    (stem,) = (r for r in mixed if r['modules'] == ['stem'])
    assert stem['conv']['act_grid'] == 'image'
    assert mixed[0] == recipe[-1]
    widths = dict.fromkeys(widths, 8)
    assert with_widths(mixed, layers, widths) == with_widths(
        recipe, layers, widths
    )


def test_layers_of_one_width_share_a_rule():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    layers = options_of_layers(detector, recipe)
    mixed = with_widths(recipe, layers, dict.fromkeys(layers, 4))
    names = [rule['modules'] for rule in mixed if 'conv' in rule]
    assert sorted(names) == [['depthwise', 'bbox_head.output'], ['stem']]


def test_layers_left_float_have_no_width():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    recipe.append(dict(modules='depthwise', float=True))
    layers = options_of_layers(detector, recipe)
    assert list(layers) == ['stem', 'bbox_head.output']
    mixed = with_widths(recipe, layers, dict.fromkeys(layers, 4))
    assert options_of_layers(detector, mixed) == {
        name: replace(options, weight_bits=4)
        for name, options in layers.items()
    }
