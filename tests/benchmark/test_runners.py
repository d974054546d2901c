"""How a file is loaded and given images."""

import numpy as np

from aqd_mmdet.benchmark.runners import LOAD, _images
from aqd_mmdet.program import file
from aqd_mmdet.runtime import reference
from tests.factories import detector

SHAPE = (1, 3, 8, 16)


def test_images_are_the_same_for_all():
    codes = _images((2, 5), np.uint8)
    assert codes.tolist() == [[0, 1, 4, 9, 16], [25, 36, 49, 64, 81]]
    real = _images((1, 2), np.float32)
    assert (real.dtype, real.tolist()) == (np.float32, [[-2.0, -127 / 64]])


def test_the_engine_runs_the_network_into_the_same_memory(tmp_path):
    whole = detector()
    file.save(whole, tmp_path / 'model.aqd')
    run = LOAD['aqd'](tmp_path / 'model.aqd', SHAPE, 1)
    pixels = _images((1, 8, 16, 3), np.uint8).transpose(0, 3, 1, 2)
    expected = reference.run(whole.program, pixels)
    found = run()
    for name, values in expected.items():
        assert np.array_equal(found[name], values)
    for name, values in run().items():
        assert np.shares_memory(values, found[name])
