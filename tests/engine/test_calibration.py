import itertools
from copy import deepcopy

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from aqd_mmdet.engine import calibration
from aqd_mmdet.engine.calibration import (
    calibrate,
    check_norms_train,
    sample_batches,
    start_quantizers,
)
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import FixedPointActivation, QuantConv2d
from aqd_mmdet.models.quantized_detector import quantized_layers
from aqd_mmdet.quantizers import Quantizer
from aqd_mmdet.quantizers.start import mse_clip, paper_clip
from tests.factories import digits_config

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
        assert quantizer.hook is None, name


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


class OneLayer(nn.Module):
    """A detector of a single layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor, mode: str) -> torch.Tensor:
        return self.layer(inputs)


# Its channels have ranges of their own.
MAPS = (
    torch.randn(2, 3, 8, 8) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
)


def test_fixed_point_activations_get_one_step():
    layer = FixedPointActivation(nn.SiLU())
    calibrate(OneLayer(layer), [dict(inputs=MAPS)], mse_clip)
    assert layer.started and layer.clip.shape == ()


@pytest.mark.parametrize('per_channel', [False, True])
def test_weights_are_started_as_they_are_rounded(per_channel):
    layer = QuantConv2d(
        3, 4, 1, weight_bits=4, act_grid='asymmetric', act_per_channel=True,
        per_channel=per_channel,
    )  # fmt: skip
    calibrate(OneLayer(layer), [dict(inputs=MAPS)], mse_clip)
    # Weights of channels of small steps are made smaller before.
    ratio = layer.input_ratio().flatten()
    assert ratio[0] < 0.1 and ratio[2] == 1
    weight = layer.normalized_weight().detach().flatten(1) * ratio
    grid = layer.weight_quantizer.grid
    rows = weight if per_channel else weight[None]
    expected = torch.stack([mse_clip(row, grid, True) for row in rows])
    assert torch.equal(layer.weight_quantizer.clip.flatten(), expected)


def loader(sampler, size: int = 4, batch_size: int = 3, **options):
    return DataLoader(
        TensorDataset(torch.arange(size)),
        batch_size=batch_size,
        sampler=sampler,
        **options,
    )


def test_batches_are_full_and_the_sampler_goes_on():
    forever = itertools.count()
    before = next(forever)
    batches = sample_batches(loader(forever), 5, seed=1)
    assert [len(x) for (x,) in batches] == [3] * 5
    assert next(forever) == before + 1
    # All images are seen before one comes again.
    seen = torch.cat([x for (x,) in batches])
    assert sorted(seen[:4].tolist()) == [0, 1, 2, 3]
    again = sample_batches(loader(None), 5, seed=1)
    assert torch.equal(seen, torch.cat([x for (x,) in again]))


def test_processes_see_different_images(monkeypatch):
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(calibration, 'get_world_size', lambda: 2)
        monkeypatch.setattr(calibration, 'get_rank', lambda rank=rank: rank)
        batches = sample_batches(loader(None, size=40), 2, seed=1)
        parts.append(set(torch.cat([x for (x,) in batches]).tolist()))
    assert len(parts[0] | parts[1]) == 12


def test_a_stream_cannot_be_drawn_from():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(UserError, match='Stream'):
        sample_batches(DataLoader(Stream(), batch_size=1), 1, 0)


def test_norms_that_see_nothing_keep_their_statistics(build):
    model = build(2)
    model.unused = nn.BatchNorm2d(3)
    nn.init.constant_(model.unused.running_mean, 5)
    calibrate(model, BATCHES[:1], mse_clip)
    assert model.unused.running_mean.tolist() == [5, 5, 5]


def test_quantisers_that_see_nothing_are_told(build, logged):
    model = build(2)
    model.unused = QuantConv2d(3, 3, 1)
    calibrate(model, BATCHES[:1], mse_clip)
    (line,) = logged
    assert '1 quantisers saw no values, such as unused' in line


def clips(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: q.clip.detach().clone() for n, q in quantizers(model).items()}


def test_what_is_set_is_kept(build):
    model = build(2)
    calibrate(model, BATCHES[:1], mse_clip)
    for quantizer in quantizers(model).values():
        quantizer.clip.data.mul_(1.25)  # as training does
    before = clips(model)
    norms = deepcopy(model.neck.lateral_convs[0].bn.state_dict())
    new = 'neck.fpn_convs.0.conv.input_quantizer'
    quantizers(model)[new].started.fill_(False)
    start_quantizers(model, BATCHES[:1], mse_clip)
    after = clips(model)
    changed = {n for n in after if not torch.equal(after[n], before[n])}
    assert changed == {new}
    for name, value in model.neck.lateral_convs[0].bn.state_dict().items():
        assert torch.equal(value, norms[name]), name


@pytest.mark.parametrize('per_channel', [False, True])
def test_weights_for_other_classes_are_new(build, per_channel):
    recipe = [
        dict(modules='*', conv=dict(per_channel=per_channel)),
        dict(modules='backbone.conv1', conv=dict(act_grid='image')),
    ]
    trained = build(2, recipe=recipe)
    calibrate(trained, BATCHES[:1], mse_clip)
    cfg = digits_config('2bit').model
    cfg.recipe, cfg.bbox_head.num_classes = recipe, 3
    model = MODELS.build(cfg)
    load_state_dict(model, deepcopy(trained.state_dict()))
    found = {n for n, q in quantizers(model).items() if not q.started}
    assert found == {'bbox_head.retina_cls.weight_quantizer'}
    calibrate(model, BATCHES[:1], mse_clip)
    layer = model.bbox_head.retina_cls
    clip = layer.weight_quantizer.clip.detach()
    # Of new weights, whose deviation is a hundredth.
    assert clip.amin() > 0.001 and clip.amax() < 0.05
