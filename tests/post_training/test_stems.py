import pytest
import torch
from mmengine.config import Config
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.post_training.stems import (
    find_stems,
    fold_preprocessor,
    use_folded_preprocessor,
)
from tests.post_training.small import small


@pytest.mark.parametrize('focus', [False, True])
def test_stems_read_pixels_and_nothing_else(focus):
    detector = small(focus)
    assert find_stems(detector) == {'stem': detector.stem}


def test_a_detector_without_a_stem_is_refused():
    detector = small()
    detector.extract_feat = lambda x: (x.mean(1, keepdim=True),)
    with pytest.raises(UserError, match='SmallDetector: expected a conv'):
        find_stems(detector)


@pytest.mark.parametrize('bias', [False, True])
def test_the_preprocessor_is_in_the_stem(bias):
    detector = small()
    if bias:
        detector.stem.bias = nn.Parameter(torch.randn(8))
    pre = detector.data_preprocessor
    pixels = torch.randint(0, 256, (1, 3, 64, 64)).float()
    before = detector((pixels - pre.mean) / pre.std)[0]
    fold_preprocessor(detector, find_stems(detector))
    assert pre.mean.flatten().tolist() == [124, 116, 104]
    assert (pre.std == 1).all()
    assert (detector.stem.bias is not None) == bias
    after = detector((pixels - pre.mean) / pre.std)[0]
    # The border of the image is padded with the rounded means.
    inside = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(before[inside], after[inside], atol=1e-4)
    assert not torch.allclose(before, after, atol=1e-4)


def test_whole_means_change_nothing():
    detector = small()
    pre = detector.data_preprocessor
    pre.mean, pre.std = torch.full((3, 1, 1), 7.0), torch.ones(3, 1, 1)
    weight = detector.stem.weight.clone()
    fold_preprocessor(detector, find_stems(detector))
    assert torch.equal(detector.stem.weight, weight)


def test_a_config_has_what_is_left_of_the_preprocessor():
    detector = small()
    fold_preprocessor(detector, find_stems(detector))
    written = dict(mean=[123.7, 116.3, 103.5], std=[58.0, 57.0, 57.4])
    cfg = Config(dict(model=dict(data_preprocessor=written)))
    use_folded_preprocessor(cfg, detector)
    assert cfg.model.data_preprocessor == dict(
        mean=[124, 116, 104], std=[1, 1, 1]
    )
    # Pixels as they are have no mean.
    detector.data_preprocessor._enable_normalize = False
    cfg = Config(dict(model=dict(data_preprocessor={})))
    use_folded_preprocessor(cfg, detector)
    assert cfg.model.data_preprocessor == {}


def test_a_border_in_deviations_is_refused():
    detector = small()
    detector.data_preprocessor.pad_value = 1
    with pytest.raises(UserError, match='pad_value=1'):
        fold_preprocessor(detector, find_stems(detector))


def test_deviations_of_slices_are_refused():
    detector = small(focus=True)
    with pytest.raises(UserError, match='stem: expected a convolution of 3'):
        fold_preprocessor(detector, find_stems(detector))
