"""Detectors of the benchmark, with random weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aqd_mmdet.benchmark.cases import CASES, Network
from aqd_mmdet.benchmark.detectors import (
    LEAVES,
    _quantized,
    _read_config,
    build_float,
    folded,
    random_pixels,
)
from aqd_mmdet.compiler.compile import read_test_preprocess
from aqd_mmdet.models.quantized_detector import quantized_layers

CONFIGS = Path('configs')
ZOO = [x for x in CASES if isinstance(x, Network) and x.source.is_zoo]
SSDLITE = Network('ssdlite', (320, 320))


@pytest.fixture(scope='module')
def ssdlite():
    return build_float(SSDLITE, CONFIGS)


def test_random_pictures_are_bytes_that_differ():
    pixels = random_pixels((48, 80))
    assert pixels.shape == (len(LEAVES), 3, 48, 80)
    assert torch.equal(pixels, pixels.round())
    assert pixels.amin() >= 0
    assert pixels.amax() <= 255
    assert (pixels.std((2, 3)) > 10).all()
    assert torch.equal(pixels, random_pixels((48, 80)))


@pytest.mark.parametrize('case', ZOO, ids=lambda case: case.name)
def test_sizes_are_those_of_the_test_pipeline(case):
    pipeline = _read_config(case, CONFIGS).test_dataloader.dataset.pipeline
    (resize,) = [x for x in pipeline if x.type == 'Resize']
    assert resize.scale == case.size


def test_a_float_detector_has_ordinary_activations(ssdlite):
    with torch.no_grad():
        features = ssdlite.detector.extract_feat(ssdlite.images)
    for level in features:
        assert 0.1 < level.std() < 10
    # The preprocessor's means and deviations.
    assert ssdlite.images.mean().abs() < 1
    pre = read_test_preprocess(
        folded(ssdlite.detector).data_preprocessor, ssdlite.cfg
    )
    assert (pre.stretch, pre.long) == (True, 320)


def test_a_float_detector_is_quantised_after_training(ssdlite):
    before = {k: v.clone() for k, v in ssdlite.detector.state_dict().items()}
    small = replace(ssdlite, pixels=random_pixels((64, 64))[:1])
    layers = quantized_layers(_quantized(small, 2)).values()
    widths = [
        layer.weight_quantizer.grid.bits
        for layer in layers
        if layer.groups == 1
    ]
    # The stem alone has 8 bits.
    assert sorted(set(widths)) == [2, 8]
    assert widths.count(8) == 1
    # What the peers run is as it was.
    for name, value in ssdlite.detector.state_dict().items():
        assert torch.equal(value, before[name])
