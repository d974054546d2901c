import torch

from aqd_mmdet.post_training.calibration import calibrate
from aqd_mmdet.post_training.correction import correct
from tests.post_training.small import pictures, small
from tests.post_training.test_quantize import quantised


def test_the_mean_that_rounding_takes_off_is_added():
    teacher, student = small(), quantised(weight_bits=3)
    calibrate(student, pictures(4), 4)
    before = student.bbox_head.output.bias.clone()
    correct(student, teacher, pictures(4))
    assert not torch.equal(student.bbox_head.output.bias, before)
    x = torch.cat([teacher.extract_feat(p)[0] for p in pictures(4)])
    exact = teacher.bbox_head.output(x)
    rounded = student.bbox_head.output(x)
    assert (exact - rounded).mean((0, 2, 3)).abs().max() < 1e-5


def test_a_layer_without_a_bias_gets_one():
    teacher, student = small(), quantised()
    calibrate(student, pictures(1), 1)
    assert student.stem.bias is None
    correct(student, teacher, pictures(1))
    assert student.stem.bias.shape == (8,)
