import torch

from aqd_mmdet.post_training.calibration import calibrate
from aqd_mmdet.post_training.distillation import difference, distill
from tests.post_training.small import pictures, small
from tests.post_training.test_quantize import quantised


def losses() -> list[float]:
    student = quantised()
    calibrate(student, pictures(3), 3)
    with torch.no_grad():  # what there is to learn
        student.bbox_head.output.bias += 0.02
    return list(distill(student, small(), pictures(3), steps=100))


def test_the_loss_falls_and_is_the_same_again():
    first = losses()
    assert sum(first[-10:]) < 0.5 * sum(first[:10])
    assert losses() == first


def test_maps_are_compared_in_units_of_their_variance():
    goal = torch.tensor([0.0, 2.0])  # a variance of 1
    found = torch.tensor([1.0, 3.0])
    assert difference([found], [goal]).item() == 1
    assert difference([10 * found], [10 * goal]).item() == 1
