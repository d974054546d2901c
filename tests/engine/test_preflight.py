import json
import shutil

import pytest
from mmengine.config import Config

from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.errors import UserError
from tests import trainings
from tests.factories import CONFIGS, digits_config

CLASSES = ('cat', 'dog')


def test_classes_must_fit_the_head():
    model = digits_config('2bit').model
    preflight.check_classes(model, [str(i) for i in range(10)])
    with pytest.raises(
        UserError,
        match=r'model.bbox_head.num_classes=10, but '
        r'the dataset has 2 classes',
    ):
        preflight.check_classes(model, CLASSES)


def test_numbers_of_classes_may_be_text():
    model = dict(bbox_head=dict(num_classes='10'))
    with pytest.raises(UserError, match="num_classes='10', but the dataset"):
        preflight.check_classes(model, [str(i) for i in range(10)])


def test_a_loader_needs_a_dataset():
    cfg = digits_config('2bit')
    cfg.val_dataloader = dict(batch_size=2)
    with pytest.raises(UserError, match='val_dataloader has no dataset'):
        preflight.check_data(cfg, ['val'])


@pytest.fixture
def cfg(digits, tmp_path):
    """A config of a copy of the dataset."""
    root = shutil.copytree(digits, tmp_path / 'digits')
    cfg = digits_config('2bit')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{root}/'
    for split in ('val', 'test'):
        cfg[f'{split}_evaluator'].ann_file = f'{root}/val.json'
    return cfg


def change(path, change):
    """Change an annotation file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_data_of_a_config(cfg, tmp_path):
    preflight.check_data(cfg, ['train', 'val', 'test'])
    (tmp_path / 'digits/val.json').unlink()
    with pytest.raises(UserError, match=r'val\.json: no such file'):
        preflight.check_data(cfg, ['val'])


@pytest.mark.parametrize(
    'wrap',
    [
        lambda d: dict(type='RepeatDataset', times=2, dataset=d),
        lambda d: dict(type='ConcatDataset', datasets=[d, d]),
        lambda d: dict(
            type='ClassBalancedDataset', oversample_thr=0.1, dataset=d
        ),
    ],
)
def test_files_in_wrappers_are_checked(cfg, wrap, tmp_path):
    loader = cfg.train_dataloader
    loader.dataset = wrap(loader.dataset)
    preflight.check_data(cfg, ['train'])
    path = tmp_path / 'digits/train.json'
    change(path, lambda c: c['annotations'][3].update(bbox=[900, 0, 5, 5]))
    with pytest.raises(UserError, match=r'train\.json: annotation 4 has'):
        preflight.check_data(cfg, ['train'])


def test_splits_must_agree_on_labels(cfg):
    classes = tuple(reversed(cfg.metainfo.classes))
    cfg.val_dataloader.dataset.metainfo = dict(classes=classes)
    with pytest.raises(UserError, match=r"label 0 is '0' by train_data.*'9'"):
        preflight.check_data(cfg, ['train', 'val'])


@pytest.mark.parametrize(
    'changes, message',
    [
        (lambda c: c['images'].pop(), 'is not of the images of val_datal'),
        (lambda c: c['images'][0].update(file_name='x.png'), 'image 0'),
        (lambda c: c['annotations'][0].pop('iscrowd'), "no 'iscrowd'"),
        (lambda c: c['annotations'][0].pop('area'), "no 'area'"),
        (lambda c: c['annotations'][0].update(id=0), 'from 1'),
        (lambda c: c['categories'].reverse(), r'order \(9, 8'),
    ],
)
def test_evaluators_compare_with_the_datasets_images(
    cfg, tmp_path, changes, message
):
    other = tmp_path / 'other.json'
    shutil.copy(tmp_path / 'digits/val.json', other)
    cfg.val_evaluator.ann_file = str(other)
    preflight.check_data(cfg, ['val'])

    def drop_last(content):
        changes(content)
        kept = {i['id'] for i in content['images']}
        content['annotations'] = [
            a for a in content['annotations'] if a['image_id'] in kept
        ]

    change(other, drop_last)
    with pytest.raises(UserError, match=message):
        preflight.check_data(cfg, ['val'])


def test_the_same_file_is_held_to_what_an_evaluation_reads(cfg, tmp_path):
    path = tmp_path / 'digits/val.json'
    change(path, lambda c: c['annotations'][0].pop('iscrowd'))
    with pytest.raises(UserError, match="no 'iscrowd'"):
        preflight.check_data(cfg, ['val'])
    # Without a file, mmdet makes one of what the dataset has read.
    cfg.val_evaluator.ann_file = None
    preflight.check_data(cfg, ['val'])


@pytest.fixture
def two(cfg, tmp_path):
    """A config that validates in two datasets, and their files."""
    shutil.copytree(tmp_path / 'digits', tmp_path / 'more')
    paths = [tmp_path / name / 'val.json' for name in ('digits', 'more')]
    datasets = [
        dict(cfg.val_dataloader.dataset, data_root=f'{path.parent}/')
        for path in paths
    ]
    cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=datasets)
    return cfg, paths


@pytest.mark.parametrize('name', [None, 'digits/val.json'])
def test_images_of_two_datasets_have_their_own_ids(two, tmp_path, name):
    """CocoMetric would take both images for one."""
    cfg, _ = two
    cfg.val_evaluator.ann_file = name and str(tmp_path / name)
    with pytest.raises(UserError, match=r'image 0 is in .*digits/val.*more/'):
        preflight.check_data(cfg, ['val'])


def test_a_metric_for_each_dataset(two):
    cfg, paths = two
    metrics = [dict(cfg.val_evaluator, ann_file=str(path)) for path in paths]
    cfg.val_evaluator = dict(
        _delete_=True,
        type='MultiDatasetsEvaluator',
        metrics=metrics,
        dataset_prefixes=['a', 'b'],
    )
    change(paths[1], lambda c: c['images'][0].update(file_name='00001.png'))
    preflight.check_data(cfg, ['val'])
    metrics.reverse()
    cfg.val_evaluator.metrics = metrics
    with pytest.raises(UserError, match='is not of the images of val_datal'):
        preflight.check_data(cfg, ['val'])


def test_evaluators_in_lists(cfg, tmp_path):
    cfg.val_evaluator = [cfg.val_evaluator]
    cfg.val_evaluator[0].ann_file = str(tmp_path / 'no.json')
    with pytest.raises(UserError, match=r'val_evaluator: .*no\.json: no such'):
        preflight.check_data(cfg, ['val'])


def test_labels_of_files_that_are_there(cfg, tmp_path):
    path = tmp_path / 'digits/val.json'
    preflight.check_label_order(cfg, 'test')
    change(path, lambda c: c['categories'].reverse())
    with pytest.raises(UserError, match="label 0 is '0' by test.*but '9'"):
        preflight.check_label_order(cfg, 'test')
    path.unlink()
    preflight.check_label_order(cfg, 'test')


def test_default_classes_are_the_datasets(cfg):
    cfg.train_dataloader.dataset.pop('metainfo')
    with pytest.raises(UserError, match='80 classes'):
        preflight.check_data(cfg, ['train'])


def test_all_pipelines_read_whole_images():
    cfg = Config.fromfile(CONFIGS / 'aqd/retinanet_2bit.py')
    preflight.use_whole_images(cfg)
    text = cfg.pretty_text
    assert "'LoadImageFromFile'" not in text
    assert (
        cfg.train_dataloader.dataset.pipeline[0].type
        == 'aqd_mmdet.LoadWholeImage'
    )


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'train_cfg.max_epoch': 1}, 'r or train_cfg: TypeError: .*max_ep'),
        ({'train_dataloader.sampler.type': 'Nope'}, 'KeyError: .*Nope'),
        ({'val_evaluator.metric': 'box'}, 'val_evaluator: KeyError: .*box'),
        ({'val_cfg.type': 'ValLop'}, 'KeyError: .*ValLop'),
        ({'train_dataloader.batch_size': 'x'}, 'train_data.*Error: .*batch_s'),
        (
            {'train_dataloader.dataset.filter_cfg.min_size': 1000},
            '^train_dataloader: no image is left .* check filter_cfg',
        ),
        (
            {'train_dataloader.dataset.indices': 0},
            '^train_dataloader: no image is left',
        ),
        (
            {'train_dataloader.dataset.pipeline.0.imdecode_backend': 'x'},
            'its pipeline fails on the first image',
        ),
    ],
)
def test_mistakes_are_told_of_what_has_them(
    digits, tmp_path, changes, message
):
    runner = launch.build_runner(trainings.config(digits, tmp_path, **changes))
    with pytest.raises(UserError, match=message) as caught:
        preflight.check_pipelines(runner, ['train', 'val'])
    assert ('pipeline' in message) == ('pipeline' in str(caught.value))


def test_work_dir_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='choose another --work-dir'):
        preflight.make_work_dir(tmp_path / 'file' / 'sub')


def test_full_disk(build, tmp_path, monkeypatch):
    model = build(2)
    preflight.check_space(tmp_path, model)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(UserError, match='1 MiB are free, its checkpoints'):
        preflight.check_space(tmp_path, model)
