import torch

from aqd_mmdet.post_training.calibration import calibrate
from aqd_mmdet.post_training.distillation import difference, distill
from tests.post_training.small import pictures, small
from tests.post_training.test_quantize import quantised


def losses() -> list[float]:
    student = quantised(weight_bits=3)
    calibrate(student, pictures(3), 3)
    return list(distill(student, small(), pictures(3), steps=30))


def test_the_loss_falls_and_is_the_same_again():
    first = losses()
    assert sum(first[-5:]) < 0.9 * sum(first[:5])
    assert losses() == first


def test_maps_are_compared_in_units_of_their_variance():
    goal = torch.tensor([0.0, 2.0])  # a variance of 2
    found = torch.tensor([1.0, 3.0])
    assert difference([found], [goal]).item() == 0.5
    assert difference([10 * found], [10 * goal]).item() == 0.5
