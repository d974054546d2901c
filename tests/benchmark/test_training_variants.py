"""Variants of trainings, and layers of other libraries."""

import pytest
import torch

from aqd_mmdet.benchmark import training_variants
from aqd_mmdet.benchmark.training_variants import (
    VARIANTS,
    LsqConv2d,
    PytorchConv2d,
    Variant,
    use_layers,
)
from aqd_mmdet.models.quantized_detector import quantized_layers


def test_libraries_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(training_variants, 'find_spec', lambda name: None)
    names = [variant.name for variant in training_variants.installed()]
    assert names == [
        *('float', 'aqd-8', 'aqd-4', 'aqd-3', 'aqd-2', 'lsq-8', 'lsq-2'),
        *('pytorch-8', 'pytorch-2'),
    ]


def test_every_library_has_its_layers_and_packages():
    libraries = {variant.library for variant in VARIANTS}
    assert libraries == set(training_variants.PACKAGES)
    assert libraries - {'ours'} == set(training_variants.LAYERS)
    assert VARIANTS[0] == Variant('float', 'float', 'ours')


def test_layers_of_others_have_our_widths(build):
    model = build(2)
    ours = {
        name: (layer.weight_quantizer.grid.bits, layer.weight.shape)
        for name, layer in quantized_layers(model).items()
    }
    assert len({bits for bits, _ in ours.values()}) == 2
    use_layers(model, 'lsq')
    # The stem, which reads pixels, stays.
    assert set(quantized_layers(model)) == {'backbone.conv1'}
    ours.pop('backbone.conv1')
    for name, (bits, shape) in ours.items():
        other = model.get_submodule(name)
        assert type(other) is LsqConv2d
        assert (other.widths[0], other.weight.shape) == (bits, shape)


def test_plain_lsq_has_few_values_and_gradients():
    layer = LsqConv2d((2, 2), 3, 4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.ones(4, 3, 1, 1))
    x = torch.linspace(0, 1, 48).view(1, 3, 4, 4)
    y = layer(x)
    # Steps 0.1: weights end at 1, inputs at 3.
    assert y.max().item() == pytest.approx(3 * 0.1 * 0.3)
    y.sum().backward()
    assert layer.scales.grad.abs().min() > 0


def test_pytorchs_values_are_those_of_its_ranges():
    layer = PytorchConv2d((2, 2), 1, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -3.0]).view(2, 1, 1, 1))
    y = layer(torch.tensor([0.0, 0.6, 3.0, 1.4]).view(1, 1, 2, 2))
    # Inputs 0..3 have a step of 1. That of weights is the largest magnitude,
    # divided by half the number of steps between -2 and 1, a whole number: 1.
    weights, rounded = torch.tensor([1.0, -3.0]), torch.tensor([0.0, 1, 3, 1])
    assert torch.equal(y[0].flatten(1), weights[:, None] * rounded)
