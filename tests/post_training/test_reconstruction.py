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
