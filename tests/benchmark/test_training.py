"""Steps of training: of fixed figures, and of a small detector."""

from pathlib import Path

import pytest

from aqd_mmdet.benchmark import training
from aqd_mmdet.benchmark.machine import Machine
from aqd_mmdet.benchmark.training import Found, Steps
from aqd_mmdet.benchmark.training_variants import VARIANTS
from aqd_mmdet.errors import UserError

MIB = 2**20
FOUND = Found(
    Machine('a processor', ('avx2',), 2, 0.1, {}),
    'CPU',
    'a_config',
    4,
    1,
    (
        Steps('float', (0.2, 0.1, 0.3), 100 * MIB),
        Steps('aqd-2', (0.12, 0.11, 0.4), 115 * MIB),
    ),
)


def test_the_table():
    assert training.document(FOUND).splitlines()[2:] == [
        '| training | ms a step | least | x float | MiB | x float |',
        '|---|---:|---:|---:|---:|---:|',
        '| float | 200 | 100 | 1.00 | 100 | 1.00 |',
        '| aqd-2 | 120 | 110 | 1.10 | 115 | 1.15 |',
    ]


def test_files(tmp_path):
    paths = training.write(FOUND, tmp_path / 'new')
    assert [path.name for path in paths] == ['training.json', 'training.md']
    assert paths[1].read_text() == training.document(FOUND)


CONFIG = Path(training.__file__).parents[2] / (
    'configs/digits/retinanet_digits_fp.py'
)
SOME = tuple(v for v in VARIANTS if v.name in ('float', 'aqd-2', 'lsq-2'))


@pytest.mark.slow
def test_variants_take_turns(digits):
    options = {
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.data_root': f'{digits}/',
    }
    done = []
    found = training.compare(
        CONFIG, options, SOME, 1, 2, lambda: done.append(1)
    )
    assert len(done) == 6
    assert found.batch == 2
    assert [s.name for s in found.steps] == ['float', 'aqd-2', 'lsq-2']
    for steps in found.steps:
        assert len(steps.seconds) == 2
        assert min(steps.seconds) > 0
        assert steps.peak > 2**20


@pytest.mark.slow
def test_a_mistake_in_a_process_is_told_as_anywhere(tmp_path):
    options = {'train_dataloader.dataset.data_root': f'{tmp_path}/'}
    with pytest.raises(UserError, match=f'{tmp_path}/train.json'):
        training.compare(CONFIG, options, SOME[:1], 1, 1, lambda: None)
