"""Steps of training: of fixed figures, and of a small detector."""

from pathlib import Path

import pytest
import torch

from aqd_mmdet.benchmark import training
from aqd_mmdet.benchmark.machine import Machine
from aqd_mmdet.benchmark.training import Found, LsqConv2d, Steps, Variant
from aqd_mmdet.errors import UserError
from aqd_mmdet.models.quantized_detector import quantized_layers

MIB = 2**20
FOUND = Found(
    Machine('a processor', ('avx2',), 2, 0.1, {}),
    'CPU',
    'a_config',
    4,
    1,
    (
        Steps('float', (0.2, 0.1, 0.3), 100 * MIB),
        Steps('aqd-2', (0.12, 0.11, 0.4), 115 * MIB),
    ),
)


def test_the_table():
    assert training.document(FOUND).splitlines()[2:] == [
        '| training | ms a step | least | x float | MiB | x float |',
        '|---|---:|---:|---:|---:|---:|',
        '| float | 200 | 100 | 1.00 | 100 | 1.00 |',
        '| aqd-2 | 120 | 110 | 1.10 | 115 | 1.15 |',
    ]


def test_files(tmp_path):
    paths = training.write(FOUND, tmp_path / 'new')
    assert [path.name for path in paths] == ['training.json', 'training.md']
    assert paths[1].read_text() == training.document(FOUND)


def test_libraries_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(training, 'find_spec', lambda name: None)
    names = [variant.name for variant in training.installed()]
    assert names == [
        *('float', 'aqd-8', 'aqd-4', 'aqd-3', 'aqd-2', 'lsq-8', 'lsq-2')
    ]


def test_every_library_has_its_layers_and_packages():
    libraries = {variant.library for variant in training.VARIANTS}
    assert libraries == set(training.PACKAGES)
    assert libraries - {'ours'} == set(training.LAYERS)
    assert training.VARIANTS[0] == Variant('float', 'float', 'ours')


def test_layers_of_others_have_our_widths(build):
    model = build(2)
    ours = {
        name: (layer.weight_quantizer.grid.bits, layer.weight.shape)
        for name, layer in quantized_layers(model).items()
    }
    assert len({bits for bits, _ in ours.values()}) == 2
    training._use_layers(model, 'lsq')
    assert not quantized_layers(model)
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


CONFIG = Path(training.__file__).parents[2] / (
    'configs/digits/retinanet_digits_fp.py'
)
SOME = tuple(
    v for v in training.VARIANTS if v.name in ('float', 'aqd-2', 'lsq-2')
)


@pytest.mark.slow
def test_variants_take_turns(digits):
    options = {
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.data_root': f'{digits}/',
    }
    done = []
    found = training.compare(
        CONFIG, options, SOME, 1, 2, lambda: done.append(1)
    )
    assert len(done) == 6
    assert found.batch == 2
    assert [s.name for s in found.steps] == ['float', 'aqd-2', 'lsq-2']
    for steps in found.steps:
        assert len(steps.seconds) == 2
        assert min(steps.seconds) > 0
        assert steps.peak > 2**20


@pytest.mark.slow
def test_a_mistake_in_a_process_is_told_as_anywhere(tmp_path):
    options = {'train_dataloader.dataset.data_root': f'{tmp_path}/'}
    with pytest.raises(UserError, match=f'{tmp_path}/train.json'):
        training.compare(CONFIG, options, SOME[:1], 1, 1, lambda: None)
