from copy import deepcopy

import pytest
import torch
from torch import nn

from aqd_mmdet.engine.calibration import calibrate, check_norms_train
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantConv2d
from aqd_mmdet.models.quantized_detector import quantized_layers
from aqd_mmdet.quantizers import Quantizer
from aqd_mmdet.quantizers.start import mse_clip, paper_clip

BATCHES = [
    dict(inputs=torch.randint(-120, 130, (2, 3, 96, 128)).float())
    for _ in range(3)
]


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    return {n: m for n, m in model.named_modules() if isinstance(m, Quantizer)}


def test_all_clip_values_start(build):
    model = build(2)
    calibrate(model, BATCHES, mse_clip)
    for name, quantizer in quantizers(model).items():
        assert quantizer.started, name
        assert quantizer.clip.item() > 0, name
        assert quantizer.observer is None, name


def test_it_is_deterministic(build):
    model = build(2)
    other = deepcopy(model)
    calibrate(model, BATCHES, mse_clip)
    calibrate(other, BATCHES, mse_clip)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_norms_have_the_statistics_of_the_quantised_network(build):
    model = build(2)
    calibrate(model, BATCHES, mse_clip)
    seen = []
    norm = model.neck.lateral_convs[0].bn
    norm.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model.train()
    for batch in BATCHES:
        model(**batch, mode='tensor')
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-2, atol=1e-2)


def test_momenta_are_restored(build):
    model = build(2)
    before = [getattr(m, 'momentum', None) for m in model.modules()]
    calibrate(model, BATCHES[:1], mse_clip)
    assert [getattr(m, 'momentum', None) for m in model.modules()] == before


def test_published_start(build):
    model = build(2)
    calibrate(model, BATCHES[:1], paper_clip)
    layers = quantized_layers(model)
    assert layers['neck.lateral_convs.0.conv'].weight_quantizer.clip == 1
    output = layers['bbox_head.retina_cls']
    largest = output.weight.abs().amax()
    torch.testing.assert_close(
        output.weight_quantizer.clip.data, 0.8 * largest.detach()
    )


def test_inputs_below_zero_need_a_signed_grid(build):
    model = build(2)
    model.neck.lateral_convs[0].activate = nn.Identity()
    with pytest.raises(
        UserError, match=r"neck.fpn_convs.0.conv.*act_grid='signed'"
    ):
        calibrate(model, BATCHES[:1], mse_clip)


def test_frozen_norms_are_refused(build):
    model = build(2)
    model.backbone.norm_eval = True
    with pytest.raises(UserError, match=r'model.backbone.norm_eval=False'):
        check_norms_train(model)


def test_frozen_norms_of_a_float_part_are_fine(build):
    model = build(2, recipe=[dict(modules='neck.*', conv={})])
    model.backbone.norm_eval = True
    check_norms_train(model)


def test_per_channel_weights(build):
    model = build(
        2, recipe=[dict(modules='neck.*', conv=dict(per_channel=True))]
    )
    calibrate(model, BATCHES[:1], mse_clip)
    conv = model.neck.lateral_convs[0].conv
    assert isinstance(conv, QuantConv2d)
    assert conv.weight_quantizer.clip.unique().numel() > 1
