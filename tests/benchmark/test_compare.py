"""The table of quantisers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from aqd_mmdet.benchmark import compare
from aqd_mmdet.benchmark.accuracy import Found
from aqd_mmdet.benchmark.compare import Comparison, Result
from aqd_mmdet.benchmark.machine import Machine
from aqd_mmdet.benchmark.measure import Row
from aqd_mmdet.benchmark.quantizers import QUANTIZERS, QuantizerSpec
from aqd_mmdet.errors import UserError


def row(others):
    return Row(
        *('network', 'a', 1, 0.01, 0.009, 0.011, 0.008, 0.012, 99.0),
        *(20, 5, others, 0, 0.5, 2**20, 2**20, 1.0, 0.0, None, None),
    )


def comparison(others):
    return Comparison(
        Machine('a processor', ('avx2',), 2, 0.1, dict(numpy='2')),
        *(1, 'config', (32, 64), 3, 9),
        (
            Result('mmdet', 'float32', 30.0),
            Result('a', 'A', 29.5, 12.4, 1_960_000, 2, row(others)),
        ),
    )


def test_document(tmp_path):
    paths = compare.write(comparison(0.0), tmp_path)
    assert [path.name for path in paths] == [
        'quantizers.json',
        'quantizers.md',
    ]
    text = paths[1].read_text()
    assert '3 pictures to calibrate with, AP on 9, times of 32x64.' in text
    assert '| float32 | 30.00 |  |  |  |  |  |  |' in text
    assert '| A | 29.50 | -0.50 | 10.0 | 8.0 | 1.96 | 12 | 2 |' in text
    assert 'Disturbed' not in text
    assert json.loads(paths[0].read_text())['results'][1]['ap'] == 29.5


def test_disturbed_times_are_named():
    assert 'Disturbed by other processes: a.' in compare.document(
        comparison(0.2)
    )


def test_names_are_of_one_quantiser_each():
    names = [spec.name for spec in QUANTIZERS]
    assert len(set(names)) == len(names)
    assert 'mmdet' not in names  # the first row's


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (UserError('no picture'), 'broken: no picture$'),
        (KeyError('x'), "broken: KeyError: 'x'; leave it out by --quantizers"),
    ],
)
def test_a_failing_library_is_named_and_earlier_results_stay(
    monkeypatch, tmp_path, error, line
):
    def fail(source, path):
        raise error

    empty = Found(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    monkeypatch.setattr(
        compare, 'detect_by_mmdet', lambda *_: lambda index: empty
    )
    monkeypatch.setattr(compare, 'average_precision', lambda *_: 1.0)
    source = SimpleNamespace(dataset=[], detector=None, network=None)
    broken = QuantizerSpec('broken', 'B', 'openvino', '.xml', (), fail)
    reports = []
    with pytest.raises(UserError, match=line):
        compare.compare([broken], source, tmp_path, 1, 1, reports.append)
    assert [x.name for x in reports[-1]] == ['mmdet']
