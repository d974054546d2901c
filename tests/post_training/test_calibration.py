import pytest
import torch

from aqd_mmdet.errors import UserError
from aqd_mmdet.post_training.calibration import Observer, calibrate
from aqd_mmdet.quantizers import TensorQuantizer, build_grid
from tests.post_training.small import pictures
from tests.post_training.test_quantize import quantised


def test_an_observer_keeps_the_largest_of_each_picture():
    quantizer = TensorQuantizer(build_grid('unsigned', 8), asymmetric=True)
    observer = Observer(quantizer, pictures=100)
    x = torch.zeros(1, 4, 64, 64)
    x[0, 2, 5, 7] = 3.5
    assert observer(x, None) is x
    rows, weights = observer.sample()
    assert rows.max() == 3.5
    assert weights.sum() == pytest.approx(4 * 64 * 64, rel=0.01)


def test_all_quantisers_are_started_and_told_of():
    detector = quantised()
    reports = calibrate(detector, pictures(2), 2)
    assert [r.name for r in reports] == [
        'act',
        'depthwise',
        'bbox_head.output',
    ]
    assert all(r.signal_to_noise > 30 for r in reports)
    assert all(0 <= r.clipped < 0.05 for r in reports)
    detector(pictures(1)[0])


def test_a_layer_that_sees_nothing_is_named():
    detector = quantised()
    detector.forward = lambda x, samples, mode: x
    with pytest.raises(UserError, match='3 layers were given no values'):
        calibrate(detector, pictures(2), 2)
