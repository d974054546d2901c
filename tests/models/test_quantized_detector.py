import re
from copy import deepcopy

import pytest
import torch
from mmcv.cnn.bricks import Swish
from mmdet.models import RetinaNet
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import (
    MultiLevelBN,
    QuantAdd,
    QuantConv2d,
)
from aqd_mmdet.models.quantized_detector import (
    quantize_detector,
    quantized_layers,
)
from tests.factories import digits_config, started

# Names that quantisers add to a state dict.
QUANTISERS = ('.clip', '.started', '.format')
IMAGES = torch.randint(-120, 130, (2, 3, 96, 128)).float()


def count_codes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Run a detector; return distinct weight and input codes by layer."""
    inputs: dict[str, set[int]] = {}
    handles = []
    for name, layer in quantized_layers(model).items():
        layer.weight_quantizer.start(layer.normalized_weight().std() * 1.2)

        def see(module, args, name=name):
            codes = inputs.setdefault(name, set())
            if hasattr(module, 'clip'):
                module.start(args[0].amax() * 0.9)
            codes.update(module.codes(args[0]).unique().tolist())

        handles.append(layer.input_quantizer.register_forward_pre_hook(see))
    model.train()
    with torch.no_grad():
        model(IMAGES, mode='tensor')
    for handle in handles:
        handle.remove()
    return {
        name: (layer.weight_codes().unique().numel(), len(inputs[name]))
        for name, layer in quantized_layers(model).items()
    }


@pytest.mark.parametrize('bits', [2, 3, 4])
def test_distinct_codes_are_what_the_recipe_says(build, bits):
    model = started(build(bits))
    codes = count_codes(model)
    convs = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert sorted(codes) == sorted(convs), 'a convolution was left in float'
    for name, (weights, inputs) in codes.items():
        if name == 'backbone.conv1':
            # 8-bit weights; the image's own 250 pixel values.
            assert 2**4 < weights <= 255
            assert inputs == 250
        elif re.search(r'retina_(cls|reg)$', name):
            assert 2**4 < weights <= 255
            assert 2**4 < inputs <= 256
        elif re.search('downsample|lateral', name):
            assert (name, weights) == (name, 2**bits)
            assert (name, 2**4 < inputs <= 256) == (name, True)
        else:
            assert (name, weights) == (name, 2**bits)
            assert (name, inputs <= 2**bits) == (name, True)
    towers = [
        v for n, v in codes.items() if re.search(r'(cls|reg)_convs\.0', n)
    ]
    assert all(inputs == 2**bits for _, inputs in towers)


def test_it_is_mmdets_detector(build):
    model = build(2)
    assert type(model) is RetinaNet
    assert type(model.backbone.layer1[0]).__name__ == 'BasicBlock'


def test_names_are_the_float_detectors_and_the_quantisers(build):
    float_names = set(build('float').state_dict())
    names = set(build(2).state_dict())
    assert float_names <= names
    for name in names - float_names:
        assert name.endswith(QUANTISERS), name


def plain_config(norm: str = 'BN'):
    cfg = digits_config('fp').model
    cfg.type = cfg.pop('detector')
    cfg.pop('recipe')
    cfg.pop('bits')
    cfg.pop('integer')
    return cfg


def test_float_checkpoint_loads_and_float_recipe_is_exact(build):
    plain = MODELS.build(plain_config()).eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var)
            nn.init.normal_(module.weight)
    state = plain.state_dict()
    same = build('float', recipe=[])
    assert type(same.bbox_head.cls_convs[0].bn) is nn.BatchNorm2d
    same.load_state_dict(state)
    with_levels = build('float')
    with_levels.load_state_dict(state)
    quantised = build(2)
    missing, unexpected = quantised.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(n.endswith(QUANTISERS) for n in missing)
    expected = plain(IMAGES, mode='tensor')
    for model in (same, with_levels):
        found = model.eval()(IMAGES, mode='tensor')
        for maps, others in zip(expected, found, strict=True):
            for a, b in zip(maps, others, strict=True):
                assert torch.equal(a, b)


def test_multi_level_norms_are_private_and_convolutions_shared(build):
    model = build(2)
    head = model.bbox_head
    norms = [m for m in head.modules() if isinstance(m, MultiLevelBN)]
    convs = [m for m in head.modules() if isinstance(m, QuantConv2d)]
    assert len(norms) == 4  # two towers of two convolutions
    assert all(len(n.norms) == 4 for n in norms)  # four levels
    assert len(convs) == 4 + 2
    pointers = {p.data_ptr() for n in norms for p in n.parameters()}
    assert len(pointers) == 4 * 4 * 2


def test_five_levels_of_the_published_detector():
    from mmengine.config import Config

    from tests.factories import CONFIGS

    cfg = Config.fromfile(
        CONFIGS / 'aqd/retinanet_r18_fpn_aqd-w2a2_1x_coco.py'
    )
    model = MODELS.build(cfg.model)
    norms = [m for m in model.modules() if isinstance(m, MultiLevelBN)]
    assert len(norms) == 8
    assert sum(len(n.norms) for n in norms) == 40


def test_levels_train_their_own_norms(build):
    model = started(build(2)).train()
    model(IMAGES, mode='tensor')
    for norm in model.bbox_head.cls_convs[1].bn.norms:
        assert norm.num_batches_tracked == 1


def test_fewer_levels(build):
    model = started(build(2)).train()
    features = model.extract_feat(IMAGES)
    model.bbox_head(features[2:])
    ran = [
        int(n.num_batches_tracked)
        for n in model.bbox_head.cls_convs[0].bn.norms
    ]
    assert ran == [0, 0, 1, 1]


def test_shared_norms_are_one_line_of_the_recipe_away(build):
    recipe = digits_config('fp').model.recipe
    assert 'norm' in recipe[5]
    shared = build(2, recipe=[*recipe[:5], *recipe[6:]])
    levels = build(2)
    assert type(shared.bbox_head.cls_convs[0].bn) is nn.BatchNorm2d
    changed = {
        n.rsplit('.bn', 1)[0]
        for n in set(shared.state_dict()) ^ set(levels.state_dict())
    }
    assert changed == {
        f'bbox_head.{t}_convs.{i}' for t in ('cls', 'reg') for i in (0, 1)
    }


def test_projections_read_8_bits(build):
    """Shortcuts between stages, and what enters the pyramid."""
    inputs = {
        name: layer.input_quantizer.grid.bits
        for name, layer in quantized_layers(build(2)).items()
        if layer.weight_quantizer.grid.bits == 2
    }
    projections = {name for name, bits in inputs.items() if bits == 8}
    assert projections == {
        *(f'backbone.layer{i}.0.downsample.0' for i in (2, 3, 4)),
        *(f'neck.lateral_convs.{i}.conv' for i in (0, 1, 2)),
    }
    assert {inputs[name] for name in set(inputs) - projections} == {2}


def test_adders_of_residuals_and_pyramid(build):
    model = build(2)
    adders = [n for n, m in model.named_modules() if isinstance(m, QuantAdd)]
    blocks = [
        f'backbone.layer{i}.{j}.adds.0' for i in (1, 2, 3, 4) for j in (0, 1)
    ]
    assert adders == [*blocks, 'neck.adds.0']


def test_swish_is_one_function_and_its_signs_are_none(build):
    model = build('float')
    model.backbone.relu = Swish()
    quantize_detector(model, [dict(modules='*', act=dict(bits=12))], 8)
    assert type(model.backbone.relu.function) is Swish
    assert not list(model.backbone.relu.function.children())


def test_float_rule_leaves_parts_alone(build):
    recipe = [
        *digits_config('fp').model.recipe,
        dict(modules='backbone.*', float=True),
    ]
    model = build(2, recipe=recipe)
    kinds = {n.split('.')[0] for n in quantized_layers(model)}
    assert kinds == {'neck', 'bbox_head'}
    assert not any(isinstance(m, QuantAdd) for m in model.backbone.modules())


def test_every_parameter_gets_a_gradient(build):
    model = started(build(2)).train()
    loss = sum(
        m.square().mean()
        for maps in model(IMAGES, mode='tensor')
        for m in maps
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_deepcopy_gives_the_same_outputs(build):
    model = started(build(2)).eval()
    copy = deepcopy(model)
    for a, b in zip(
        model(IMAGES, mode='tensor')[0],
        copy(IMAGES, mode='tensor')[0],
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize('bits', [0, 1, 9, '2', 2.5])
def test_impossible_bits(build, bits):
    with pytest.raises(UserError, match=re.escape(f'bits={bits!r}')):
        build(bits)


@pytest.mark.parametrize(
    'rule, message',
    [
        (
            dict(modules='neck.nothing', conv={}),
            'matches no module with a conv',
        ),
        (
            dict(modules='bbox_head.retina_cls', add={}),
            'matches no module with a add',
        ),
        (
            dict(modules='bbox_head.*', norm=dict(type='MultiLevelBN')),
            "norm has no option 'type' .nearest: num_levels",
        ),
        (dict(type='DeformConv2d', conv={}), 'of type DeformConv2d'),
        (
            dict(modules='nek.*', float=True),
            'matches no module that could be quantised .nearest: neck',
        ),
    ],
)
def test_impossible_rules(build, rule, message):
    with pytest.raises(UserError, match=message):
        build(2, recipe=[rule])


def halve(module, args, output):
    return output * 0.5


@pytest.mark.parametrize(
    'change',
    [
        lambda layer: layer.register_forward_hook(halve),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        nn.utils.spectral_norm,
    ],
)
def test_layers_with_hooks_are_not_exchanged(build, change):
    model = build('float')
    name = 'backbone.layer1.0.conv1'
    change(model.get_submodule(name))
    recipe = [dict(modules='backbone.*', conv=dict())]
    with pytest.raises(UserError, match=f'{name}: it has hooks'):
        quantize_detector(model, recipe, 2)
    recipe.append(dict(modules=name, float=True))
    quantize_detector(model, recipe, 2)


@pytest.mark.parametrize('method', ['forward', '_conv_forward'])
def test_layers_with_methods_of_their_own_are_not_exchanged(build, method):
    model = build('float')
    name = 'backbone.layer1.0.conv1'
    conv = model.get_submodule(name)
    theirs = getattr(conv, method)
    setattr(conv, method, lambda *args: 2 * theirs(*args))
    recipe = [dict(modules='backbone.*', conv=dict())]
    message = f'{name}: it has a {method} of its own in place of Conv2d'
    with pytest.raises(UserError, match=message):
        quantize_detector(model, recipe, 2)
    recipe.append(dict(modules=name, float=True))
    quantize_detector(model, recipe, 2)


def test_no_levels_at_all(build):
    recipe = [dict(modules='bbox_head.*_convs.*', norm=dict(num_levels=0))]
    with pytest.raises(UserError, match='num_levels=0'):
        build(2, recipe=recipe)
