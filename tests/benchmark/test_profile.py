"""Tables of a profile: of fixed figures, and of a tiny detector."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.benchmark import peaks, profile
from aqd_mmdet.benchmark.machine import Machine
from aqd_mmdet.benchmark.peaks import Peaks
from aqd_mmdet.benchmark.profile import Profile, Row
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from tests.factories import detector

ROWS = (
    Row(
        'a', 'direct', (8, 4, 2), 1, 2e-3, 1e-3, 10**9, 10**6, 1e-3, 'products'
    ),
    Row('b', 'Lookup', (8, 4, 2), 1, 5e-3, 4e-3, 0, 10**7, 1e-3, 'memory'),
    Row(
        'c', 'direct', (16, 4, 2), 1, 1e-3, 1e-3, 10**9, 10**6, 5e-4, 'memory'
    ),
)
FOUND = Profile(
    Machine('a processor', ('avx2',), 2, 0.1, {}),
    'm.aqd',
    (32, 64),
    'avx2',
    1,
    3,
    Peaks({8: 2e12, 16: 1e12}, {2**20: 1e11}),
    9e-3,
    8.5e-3,
    ROWS,
)


@pytest.fixture
def model(tmp_path) -> Path:
    file.save(detector(), tmp_path / 'm.aqd')
    return tmp_path / 'm.aqd'


def test_kinds_are_sums_and_the_slowest_is_first():
    lookup, direct = FOUND.kinds()
    assert lookup == Row(
        'Lookup', 'Lookup', (), 1, 5e-3, 4e-3, 0, 10**7, 1e-3, ''
    )
    assert direct == Row(
        'direct', 'direct', (), 2, 3e-3, 2e-3, 2 * 10**9, 2 * 10**6, 1.5e-3, ''
    )
    assert FOUND.total == 8e-3


def test_cells():
    assert profile.cells(ROWS[0], FOUND.total) == [
        *('a', 'direct', '8x4x2', '2.000', '1.000', '25.0', '500.0'),
        *('1000.0', '0.5', '1.000', 'products', '50'),
    ]
    assert profile.kind_cells(FOUND.kinds()[1], FOUND.total) == [
        *('direct', '2', '3.000', '2.000', '37.5', '2.000', '666.7'),
        *('2.00', '0.7', '1.500', '50'),
    ]
    # Nothing is multiplied.
    assert profile.cells(ROWS[1], FOUND.total)[6] == ''


def test_document():
    lines = profile.document(FOUND).splitlines()
    assert lines[0] == (
        'm.aqd, image of 32x64 (height x width); a processor, avx2, threads: '
        '1; median of 3 runs.'
    )
    tables = [line for line in lines if line.startswith('|')]
    assert [line.split('|')[1].strip() for line in tables] == [
        *('operator', '-' * 10, 'a', 'b', 'c'),
        *('kernel', '-' * 8, 'Lookup', 'direct', 'all'),
    ]
    assert len({len(line) for line in tables[:5]}) == 1
    assert lines[-1] == (
        'Sum of the operators: median 8.000 ms, least 6.000 ms. Whole run '
        'without measuring them: median 9.000 ms, least 8.500 ms.'
    )


def test_written_files(tmp_path):
    paths = profile.write(FOUND, tmp_path / 'new')
    assert [path.name for path in paths] == ['profile.json', 'profile.md']
    content = json.loads(paths[0].read_text())
    assert content['rows'][1]['seconds'] == 5e-3
    assert content['peaks']['products'] == {'8': 2e12, '16': 1e12}
    assert paths[1].read_text() == profile.document(FOUND)


def test_a_profile_of_a_detector(model, monkeypatch):
    monkeypatch.setattr(peaks, 'measure', lambda threads: FOUND.peaks)
    monkeypatch.setenv('AQD_ISA', 'portable')
    found = profile.profile(model, None, '16x24', 2, 3)
    assert (found.size, found.isa, found.threads) == ((16, 24), 'portable', 2)
    assert [(row.name, row.kind, row.shape) for row in found.rows] == [
        ('p', 'Image', (3, 16, 24)),
        ('b', 'portable', (4, 16, 24)),
        ('c', 'portable', (2, 16, 24)),
    ]
    assert [row.macs for row in found.rows] == [0, 4608, 2304]
    assert 0 < found.least <= found.whole
    assert found.total > 0


def test_input():
    small = detector()
    random = profile.network_input(small, None, '16x24')
    assert (random.shape, random.dtype) == ((1, 3, 16, 24), np.uint8)
    # As the engine reads it, without a copy.
    assert random.transpose(0, 2, 3, 1).flags.c_contiguous
    for fixed in (dict(whole=True), dict(stretch=True)):
        pre = replace(small.preprocess, long=36, **fixed)
        values = profile.network_input(
            replace(small, preprocess=pre), None, None
        )
        assert values.shape == (1, 3, 40, 40)


def test_an_image_is_resized_as_the_detector_does(tmp_path):
    Image.new('RGB', (80, 40), (9, 9, 9)).save(tmp_path / 'a.png')
    values = profile.network_input(detector(), tmp_path / 'a.png', None)
    assert values.shape == (1, 3, 80, 160)
    assert np.all(values == 9)
    assert values.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize(
    'size, message',
    [
        (None, 'the size of the image is missing'),
        ('16', '--size 16: expected height x width in pixels, multiples of 8'),
        ('16x', '--size 16x: expected'),
        ('0x8', '--size 0x8: expected'),
        ('-8x8', '--size -8x8: expected'),
        ('16x20', '--size 16x20: expected'),
    ],
)
def test_sizes_that_are_refused(size, message):
    with pytest.raises(UserError, match=f'^{message}'):
        profile.network_input(detector(), None, size)


def test_a_size_beside_an_image_is_refused(tmp_path):
    with pytest.raises(UserError, match='--image has a size'):
        profile.network_input(detector(), tmp_path / 'a.png', '8x8')


def test_a_size_that_the_engine_refuses(model):
    with pytest.raises(UserError, match='99992'):
        profile.profile(model, None, '8x99992', 1, 1)
