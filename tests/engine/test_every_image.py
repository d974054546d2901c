"""An AP is of all images of a file: none may be left out or come twice."""

import pytest

from aqd_mmdet.engine import preflight
from aqd_mmdet.errors import UserError
from tests.factories import data_options, digits_config
from tests.trainings import value_of


@pytest.fixture
def cfg(digits):
    cfg = digits_config('2bit')
    pairs = (option.split('=') for option in data_options(digits))
    cfg.merge_from_dict({key: value_of(text) for key, text in pairs})
    return cfg


OPTIONS = {
    'indices': (
        {'dataset.indices': 2},
        r'dataloader\.dataset\.indices=2 leaves out images',
    ),
    'no indices': ({'dataset.indices': []}, r'indices=\[\.\.\.\] leaves'),
    'last': ({'drop_last': True}, r'dataloader\.drop_last=True leaves out'),
    'last of batches': (
        {'batch_sampler': dict(type='AspectRatioBatchSampler', drop_last=1)},
        r'batch_sampler\.drop_last=True leaves out',
    ),
    'sampler': (
        {'sampler': dict(type='InfiniteSampler')},
        r'type=InfiniteSampler is not known to give .* DefaultSampler',
    ),
    'filter': (
        {'dataset.test_mode': False, 'dataset.filter_cfg': dict(min_size=90)},
        r'dataset\.filter_cfg without test_mode=True leaves out',
    ),
}


@pytest.mark.parametrize('split', ['val', 'test'])
@pytest.mark.parametrize('options, message', OPTIONS.values(), ids=OPTIONS)
def test_what_leaves_out_images_is_refused(cfg, split, options, message):
    loader = f'{split}_dataloader'
    cfg.merge_from_dict({f'{loader}.{k}': x for k, x in options.items()})
    with pytest.raises(UserError, match=f'^{split}_.*{message}'):
        preflight.check_data(cfg, [split])
    # What is written for another evaluation to score may be of some images.
    cfg[f'{split}_evaluator'].format_only = True
    preflight.check_data(cfg, [split])


def test_wrappers_that_repeat_images_are_refused(cfg):
    loader = cfg.val_dataloader
    inner = loader.dataset
    loader.dataset = dict(type='ConcatDataset', datasets=[inner])
    preflight.check_data(cfg, ['val'])
    loader.dataset.datasets[0] = dict(
        type='RepeatDataset', times=2, dataset=inner
    )
    with pytest.raises(
        UserError, match=r'dataset\.datasets\.0\.type=RepeatDataset repeats'
    ):
        preflight.check_data(cfg, ['val'])


def test_trainings_may_leave_out_images(cfg):
    cfg.train_dataloader.drop_last = True
    cfg.train_dataloader.dataset.indices = 5
    preflight.check_data(cfg, ['train'])
