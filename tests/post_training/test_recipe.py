from torch import nn

from aqd_mmdet.models.recipe import read_recipe
from aqd_mmdet.post_training.recipe import find_recipe, is_depthwise
from aqd_mmdet.post_training.stems import find_stems
from tests.post_training.small import small


def test_what_each_layer_gets():
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 4, 6)
    assert len(read_recipe(recipe)) == len(recipe)
    everything, depthwise, stem, act = recipe
    assert everything['modules'] == '*'
    assert everything['conv']['weight_bits'] == 4
    assert everything['conv']['act_bits'] == 6
    assert depthwise['modules'] == ['depthwise']
    assert depthwise['conv']['weight_bits'] == 8
    assert stem['modules'] == ['stem']
    assert stem['conv']['act_grid'] == 'image'
    assert act == {'modules': '*', 'act': {'bits': 12}}


def test_grouped_convolutions_have_one_step():
    detector = small()
    detector.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=2)
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    (rule,) = (r for r in recipe if r['modules'] == ['depthwise'])
    assert rule['conv']['act_per_channel'] is False


def test_depthwise():
    assert is_depthwise(nn.Conv2d(4, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 8, 3, groups=2))
    assert not is_depthwise(nn.Conv2d(1, 8, 3))
