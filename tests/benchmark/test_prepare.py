"""Model files of the benchmark."""

from pathlib import Path

import pytest

from aqd_mmdet.benchmark.layers import Chain
from aqd_mmdet.benchmark.prepare import Models, check_integer
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file

TINY = Chain('tiny', ((8, 8),), 3, (6, 6))


def test_a_chain_has_two_files_each_written_once(tmp_path):
    steps = []
    models = Models(tmp_path, tmp_path, steps.append)
    paths = models.files(TINY, 'aqd2')
    assert [path.name for path in paths] == [
        'tiny-5-aqd2.aqd',
        'tiny-1-aqd2.aqd',
    ]
    assert models.files(TINY, 'aqd2') == paths
    assert steps == ['writing tiny-5-aqd2.aqd', 'writing tiny-1-aqd2.aqd']
    counts = [len(file.load(path)[0].program.weights) for path in paths]
    assert counts[0] - counts[1] == 4
    # 6 x 6 pixels of 8 x 8 products of a window of 3 x 3.
    assert models.macs(TINY) == 36 * 64 * 9


def test_convolutions_in_float_are_refused():
    check_integer('onnxruntime', Path('x.onnx'), [])
    with pytest.raises(
        UserError,
        match=r'^onnxruntime runs 2 convolutions of x\.onnx in float, for '
        'example Conv a',
    ):
        check_integer('onnxruntime', Path('x.onnx'), ['Conv a', 'Conv b'])
