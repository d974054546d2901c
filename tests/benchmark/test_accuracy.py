"""Average precision, and networks that run elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from aqd_mmdet.benchmark.accuracy import (
    Found,
    average_precision,
    build_dataset,
    detect_by_mmdet,
    detect_by_network,
    levels_of,
)
from aqd_mmdet.benchmark.prepare import raw_maps
from aqd_mmdet.benchmark.quantizers import prepared
from aqd_mmdet.errors import UserError
from tests.factories import digits_config, narrow


@pytest.fixture
def cfg(digits):
    cfg = digits_config('fp')
    cfg.test_dataloader.dataset.data_root = f'{digits}/'
    return cfg


def annotated(dataset, index):
    """What is annotated in an image, as found with certainty."""
    instances = dataset.get_data_info(index)['instances']
    return Found(
        np.array([x['bbox'] for x in instances]).reshape(-1, 4),
        np.array([x['bbox_label'] for x in instances], int),
        np.ones(len(instances)),
    )


def test_average_precision(cfg):
    dataset = build_dataset(cfg)

    def exchanged(index):
        found = annotated(dataset, index)
        return Found(found.boxes, 9 - found.labels, found.scores)

    def empty(index):
        return Found(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))

    ap = average_precision(
        dataset, lambda index: annotated(dataset, index), 'all'
    )
    assert ap == pytest.approx(100)
    assert average_precision(dataset, exchanged, 'exchanged') < 50
    assert average_precision(dataset, empty, 'empty') == 0


def test_a_network_elsewhere_finds_what_mmdet_finds(cfg):
    detector = MODELS.build({**narrow(18, 2, 'retinanet'), 'bits': 'float'})
    detector.eval().test_cfg.score_thr = 0.0
    dataset = build_dataset(cfg)
    maps = raw_maps(detector)
    levels = levels_of(detector, prepared(detector, dataset[0]))
    assert levels == (4, 4)
    detect = detect_by_network(
        dataset,
        detector,
        lambda image: [x.numpy() for x in maps(torch.from_numpy(image))],
        levels,
    )
    by_mmdet = detect_by_mmdet(dataset, detector)
    for index in range(3):
        found, expected = detect(index), by_mmdet(index)
        assert len(expected.boxes)
        for name in ('boxes', 'labels', 'scores'):
            assert np.array_equal(
                getattr(found, name), getattr(expected, name)
            )


def test_outputs_of_several_stages_are_refused():
    def detector(image, mode):
        return (image, [image])

    with pytest.raises(UserError, match='expected a detector of one stage'):
        levels_of(detector, torch.zeros(1, 3, 8, 8))
    detector.bbox_head = SimpleNamespace(predict_by_feat=None)
    with pytest.raises(UserError, match='lists of maps'):
        levels_of(detector, torch.zeros(1, 3, 8, 8))


def test_several_test_datasets_are_refused(cfg):
    part = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[part, part]
    )
    with pytest.raises(UserError, match=r'found test_dataloader\.dataset\.d'):
        build_dataset(cfg)
