import pytest
import torch
import torch.nn.functional as F

from aqd_mmdet.post_training import reconstruction
from aqd_mmdet.post_training.calibration import calibrate
from aqd_mmdet.post_training.reconstruction import reconstruct
from tests.post_training.small import pictures, small
from tests.post_training.test_quantize import quantised


def grey(count: int) -> list[torch.Tensor]:
    """Pictures whose channels are one, and neighbours alike."""
    return [
        F.interpolate(p[:, :1, :8, :8], scale_factor=4, mode='bilinear')
        .round()
        .expand(1, 3, 32, 32)
        for p in pictures(count)
    ]


def test_outputs_are_nearer_than_by_rounding_each_weight():
    teacher, student = small(), quantised()
    calibrate(student, grey(4), 4)
    layers = ('stem', 'depthwise', 'bbox_head.output')
    inputs: dict[str, torch.Tensor] = {}
    for name in layers:
        teacher.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: inputs.update({name: args[0]})
        )
    teacher(grey(5)[4])

    def spread(name: str) -> float:
        difference = student.get_submodule(name)(
            inputs[name]
        ) - teacher.get_submodule(name)(inputs[name])
        return difference.var((0, 2, 3)).sum().item()

    before = {name: spread(name) for name in layers}
    reconstruct(student, grey(4))
    after = {name: spread(name) for name in layers}
    assert after['stem'] < 0.5 * before['stem']


def test_weights_become_their_rounded_values():
    student = quantised(weight_bits=3)
    calibrate(student, pictures(2), 2)
    reconstruct(student, pictures(2))
    layer = student.bbox_head.output
    assert torch.allclose(layer.quantized_weight(), layer.weight, atol=1e-6)


def test_wide_layers_are_left_alone(monkeypatch):
    student = quantised(weight_bits=3)
    calibrate(student, pictures(2), 2)
    layer = student.bbox_head.output
    width = layer.weight[0].numel()
    before = layer.weight.detach().clone()
    monkeypatch.setattr(reconstruction, 'MAX_WIDTH', width - 1)
    reconstruct(student, pictures(2))
    assert torch.equal(layer.weight, before)
    monkeypatch.setattr(reconstruction, 'MAX_WIDTH', width)
    reconstruct(student, pictures(2))
    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize('levels', [(-120.0,) * 3, (-123.0, 130.0, 130.0)])
def test_flat_pictures(levels):
    """Inputs of one value have no variance, whatever the value."""
    student = quantised()
    for layer in (student.stem, student.depthwise):
        layer.padding = (0, 0)  # whose zeros would be a second value
    flat = [torch.full((1, 3, 32, 32), level) for level in levels]
    calibrate(student, flat, 3)
    reconstruct(student, flat)
    for name in ('stem', 'depthwise', 'bbox_head.output'):
        layer = student.get_submodule(name)
        assert layer.weight.isfinite().all()
        assert torch.allclose(
            layer.quantized_weight(), layer.weight, atol=1e-6
        )


def test_covariances_are_of_all_pictures():
    """Of pictures of several means and numbers of windows."""
    layer = quantised().bbox_head.output
    statistic = reconstruction._Covariance(layer)
    torch.manual_seed(0)
    inputs = [
        torch.randn(1, 8, side, side) + 5 * torch.randn(1, 8, 1, 1)
        for side in (4, 9, 6)
    ]
    for x in inputs:
        statistic(layer, (x,))
    statistic(layer, (torch.zeros(0, 8, 4, 4),))
    rows = torch.cat([x.flatten(2)[0] for x in inputs], 1).double()
    expected = rows.cov(correction=0)
    damping = 0.01 * expected.diagonal().mean() * torch.eye(8)
    assert torch.allclose(statistic.matrix()[0], expected + damping, 1e-4)
