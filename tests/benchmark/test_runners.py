"""How a file is loaded and given images."""

import re

import numpy as np
import pytest

from aqd_mmdet.benchmark.runners import LOAD, MAX_ISA, _images, check_held
from aqd_mmdet.errors import UserError
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


@pytest.mark.parametrize(
    'limit, kernel, is_held',
    [
        ('', 'brgconv_avx512_amx_I8', True),
        ('AVX512_CORE_VNNI', 'brgconv_avx512_I8', True),
        ('AVX512_CORE_VNNI', 'brgconv_avx512_amx_I8', False),
        ('AVX2', 'jit_avx2_1x1_I8', True),
        ('AVX2', 'brgconv_avx512_1x1_I8', False),
        ('AVX2_VNNI', 'brgconv_avx512_I8', False),
    ],
)
def test_held_to_instructions(limit, kernel, is_held):
    kernels = ['unknown_f32', kernel]
    if is_held:
        return check_held(kernels, limit)
    message = re.escape(f'{MAX_ISA}={limit} does not hold OpenVINO')
    with pytest.raises(UserError, match=f'{message}.*found {kernel}$'):
        check_held(kernels, limit)
