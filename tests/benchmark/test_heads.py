"""What is around the peers' networks: equal to what mmdet does."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aqd_mmdet.benchmark.cases import Network
from aqd_mmdet.benchmark.detectors import build_float
from aqd_mmdet.benchmark.heads import (
    CANDIDATES,
    byte_table,
    head_of,
    read_pipeline,
    set_candidates,
)
from aqd_mmdet.benchmark.pipeline import Frame, find_boxes
from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime.preprocess import prepare

CONFIGS = Path('configs')
# Smaller than those of the benchmark, where the detector allows it.
SIZES = {
    'retinanet-r18': 160,
    'fcos-r18': 160,
    'yolox-nano': 160,
    'rtmdet-tiny': 96,
    'ssdlite': 320,
}


@pytest.fixture(scope='module', params=SIZES)
def floating(request):
    side = SIZES[request.param]
    floating = build_float(Network(request.param, (side, side)), CONFIGS)
    set_candidates(floating.detector, floating.images)
    return floating


@pytest.fixture(scope='module')
def pipeline(floating):
    """A pipeline whose frame is as small as the pictures here."""
    pipeline = read_pipeline(floating, None)
    side = pipeline.size[0]
    pre = replace(pipeline.preprocess, short=side, long=side)
    return replace(pipeline, preprocess=pre)


@torch.no_grad()
def test_boxes_are_those_of_mmdet(floating, pipeline):
    head, image = floating.detector.bbox_head, floating.images[-1:]
    outputs = floating.detector(image, mode='tensor')
    side = pipeline.size[0]  # the rest of the frame is border
    size, original = (3 * side // 4, side), (3 * side // 2, 2 * side)
    (expected,) = head.predict_by_feat(
        *outputs,
        batch_img_metas=[dict(img_shape=size, scale_factor=(0.5, 0.5))],
        rescale=True,
    )
    maps = [x.numpy() for levels in outputs for x in levels]
    found = find_boxes(pipeline.decoding, maps, size, original)
    assert len(found.boxes) > 10
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    # In order of scores, of which some are nearly equal.
    ours, theirs = (
        np.column_stack([labels, boxes])
        for labels, boxes in (
            (found.labels, found.boxes),
            (expected.labels, expected.bboxes),
        )
    )
    distance = np.abs(ours[:, None] - theirs).max(2)
    assert (distance.min(1) < 1e-2).all()


@torch.no_grad()
def test_there_are_as_many_candidates_as_a_trained_detector_has(
    floating, pipeline
):
    outputs = floating.detector(floating.images, mode='tensor')
    decoding = pipeline.decoding
    counts = []
    for index in range(len(floating.images)):
        maps = [
            x[index : index + 1].numpy() for levels in outputs for x in levels
        ]
        counts.append(sum(len(x.scores) for x in decoding.candidates_of(maps)))
    assert np.mean(counts) == pytest.approx(CANDIDATES, rel=0.02)


@pytest.mark.parametrize('shape', [(60, 80), (131, 67)])
def test_pictures_are_put_into_the_frame(pipeline, shape):
    frame = Frame(pipeline)
    frame.put(np.zeros((9, 9, 3), np.uint8))  # what the next one overwrites
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))
    picture = np.stack([smooth, smooth // 2, 255 - smooth], 2).astype(np.uint8)
    pixels, size = prepare(picture, pipeline.preprocess, 1)
    assert frame.put(picture) == size
    channels = np.arange(3)[:, None, None]
    expected = pipeline.table[channels, pixels[0]]
    # OpenCV's bilinear rule rounds otherwise.
    step = np.abs(np.diff(pipeline.table)).max()
    rows, columns = expected.shape[1:]
    inside = frame.image[0, :, :rows, :columns]
    assert np.abs(inside - expected).max() <= 1.01 * step
    # The rest of a frame is border, as where a picture is a square's part.
    fill = np.array(pipeline.preprocess.fill)[:, None, None]
    border = pipeline.table[channels, fill]
    assert (frame.image[0, :, rows:] == border).all()
    assert (frame.image[0, :, :rows, columns:] == border).all()
    assert frame.image.dtype == np.float32


def test_int8_networks_are_given_codes(floating, pipeline):
    scale, zero = 0.02, 120
    real = pipeline.table
    table = byte_table(floating.detector, (scale, zero))
    assert table.dtype == np.uint8
    inside = (table > 0) & (table < 255)
    error = (table.astype(float) - zero) * scale - real
    assert np.abs(error[inside]).max() <= scale / 2 * 1.001


def test_bytes_that_are_codes_are_only_moved(floating, pipeline):
    table = byte_table(floating.detector, (1.0, 0))
    pipeline = replace(pipeline, table=table)
    picture = np.random.default_rng(0).integers(
        0, 256, (*pipeline.size, 3), np.uint8
    )
    frame = Frame(pipeline)
    frame.put(picture)
    order = slice(None, None, -1 if pipeline.preprocess.bgr else 1)
    planes = picture.transpose(2, 0, 1)[order]
    for plane, row, image in zip(
        planes, pipeline.table, frame.image[0], strict=True
    ):
        assert np.array_equal(image, row[plane])


@torch.no_grad()
def test_nothing_is_found_where_no_score_is_high_enough(floating, pipeline):
    outputs = floating.detector(floating.images[:1], mode='tensor')
    maps = [x.numpy() for levels in outputs for x in levels]
    for each in maps[: len(pipeline.decoding.priors)]:
        each[:] = -30  # of all classes, if there is no background
        if pipeline.decoding.scores == 'softmax':
            each[:, 80::81] = 30
    found = find_boxes(pipeline.decoding, maps, (64, 64), (64, 64))
    assert [len(x) for x in found] == [0, 0, 0]
    assert found.boxes.shape == (0, 4)


def test_other_heads_are_refused_by_name():
    head = type('OtherHead', (), {})()
    with pytest.raises(UserError, match='^OtherHead: the peers have no boxes'):
        head_of(SimpleNamespace(bbox_head=head))
