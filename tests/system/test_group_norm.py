"""A head with group norms trains, and all executors run its program alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.compiler.fold import fold
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import MultiLevelBN, QuantGroupNorm
from aqd_mmdet.models.integer_aware import IntegerNetwork
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import reference
from tests import kernels, oracle
from tests.factories import (
    MEAN,
    detector,
    engine_of,
    narrow,
    normalised,
    pixels,
    started,
)

RULE = dict(modules='bbox_head.*', group_norm=dict())
TOWERS = [
    f'bbox_head.{kind}_convs.{i}' for kind in ('cls', 'reg') for i in (0, 1)
]


def config(*rules: dict) -> ConfigDict:
    """A narrow FCOS with group norms in its head, as mmdet's default."""
    cfg = narrow(18, 4, 'fcos')
    cfg.bbox_head.norm_cfg = dict(type='GN', num_groups=2)
    recipe = [rule for rule in cfg.recipe if 'norm' not in rule]
    cfg.recipe = [*recipe, *rules]
    return cfg


def calibrated(cfg: ConfigDict) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    for module in model.modules():
        if isinstance(module, QuantGroupNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    calibrate(model, [dict(inputs=normalised(pixels(2, 3, 96, 96)))], mse_clip)
    return model


@pytest.mark.parametrize('bits', [4, 8, 16])
def test_a_head_is_its_program_everywhere(bits):
    model = calibrated(config(dict(RULE, group_norm=dict(bits=bits))))
    for name in TOWERS:
        assert type(model.get_submodule(name).gn) is QuantGroupNorm
    network = IntegerNetwork(model)
    program = network.folded.program
    norms = [op for op in program.ops if isinstance(op, ir.GroupNorm)]
    assert len(norms) == len(TOWERS) * 4  # levels, each with its statistics
    image = pixels(1, 3, 64, 96)
    expected = reference.run(program, image.numpy())
    by_oracle = oracle.run(program, image[0].tolist())
    for out, maps in zip(
        program.outputs, network.evaluate(normalised(image)), strict=True
    ):
        for name, values in zip(out.tensors, maps, strict=True):
            codes = (values.double() / out.scale).round().numpy()
            assert np.array_equal(codes, expected[name])
            assert codes[0].tolist() == by_oracle[name]
    whole = replace(detector(), program=program)
    for isa in kernels.names():
        with kernels.chosen(isa):
            found = engine_of(whole, 2).run(program, image.numpy())
        for name, values in expected.items():
            assert np.array_equal(found[name], values), (isa, name)


def test_it_trains():
    model = calibrated(config(RULE)).train()
    data = demo_mm_inputs(2, [(3, 96, 96)] * 2, num_classes=10)
    data = model.data_preprocessor(data, True)
    losses, _ = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    for name in TOWERS:
        for parameter in model.get_submodule(name).gn.parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_levels_may_have_group_norms_of_their_own():
    levelled = dict(modules='bbox_head.*_convs.*', norm=dict())
    model = calibrated(config(levelled, RULE))
    norm = model.bbox_head.cls_convs[0].gn
    assert isinstance(norm, MultiLevelBN)
    assert all(type(each) is QuantGroupNorm for each in norm.norms)
    program = IntegerNetwork(model).folded.program
    assert any(isinstance(op, ir.GroupNorm) for op in program.ops)


def test_a_float_group_norm_is_refused_with_the_rule():
    model = started(MODELS.build(config()))
    with pytest.raises(UserError) as caught:
        fold(trace(model), MEAN, 32, FixedPoint())
    message = str(caught.value)
    assert message.startswith('bbox_head.cls_convs.0.gn: aten.group_norm')
    assert 'group_norm=dict()' in message
