import pytest
import torch
from mmcv.cnn import ConvAWS2d
from mmengine.config import Config
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.post_training.stems import (
    find_stems,
    fold_preprocessor,
    use_folded_preprocessor,
)
from tests.post_training.small import SmallDetector, small


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


def _folded(detector):
    """Maps before and after the preprocessor is folded."""
    pre = detector.data_preprocessor
    pixels = torch.randint(0, 256, (1, 3, 64, 64)).float()
    before = detector((pixels - pre.mean) / pre.std)[0]
    fold_preprocessor(detector, find_stems(detector))
    after = detector((pixels - pre.mean) / pre.std)[0]
    inside = (..., slice(4, -4), slice(4, -4))
    return before[inside], after[inside]


class _Beside(SmallDetector):
    """Another layer reads the image beside the stem."""

    def __init__(self, other, norm=None):
        super().__init__()
        self.other = other
        self.other_norm = norm or nn.Identity()

    def extract_feat(self, x):
        y = self.other_norm(self.other(x))
        x = self.norm(self.stem(x))
        return (self.relu(self.depthwise(self.act(x + y))),)


def _beside(other, norm=None):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return _Beside(other, norm).eval()


OTHERS = {
    'an average of the image': lambda: nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(3, 8, 1)
    ),
    'an average of it all': lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 8, 1)
    ),
    'a norm of the image': lambda: nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, 2, 1)
    ),
    'weights that are normed': lambda: ConvAWS2d(3, 8, 3, 2, 1),
}


@pytest.mark.parametrize('name', OTHERS)
def test_what_reads_the_image_beside_the_stem_is_refused(name):
    detector = _beside(OTHERS[name]())
    with pytest.raises(UserError, match='folded into .*stem.*: expected'):
        fold_preprocessor(detector, find_stems(detector))


@pytest.mark.parametrize('name', ['weight', 'weight and bias'])
def test_tied_stems_are_divided_once(name):
    other = nn.Conv2d(3, 8, 3, 2, 2, dilation=2, bias='bias' in name)
    detector = _beside(other, nn.BatchNorm2d(8))
    detector.stem.weight = other.weight
    detector.stem.bias = other.bias
    weight = other.weight.clone()
    before, after = _folded(detector)
    assert detector.stem.weight is other.weight
    assert detector.stem.bias is other.bias
    std = torch.tensor([58.0, 57.0, 57.4])
    assert torch.allclose(weight / std[:, None, None], other.weight)
    assert torch.allclose(before, after, atol=1e-4)


def test_a_bias_of_two_stems_that_need_their_own_is_refused():
    other = nn.Conv2d(3, 8, 3, 2, 1)
    detector = _beside(other)
    detector.stem.bias = other.bias
    with pytest.raises(UserError, match='shares its bias with another'):
        fold_preprocessor(detector, find_stems(detector))


def test_a_stem_that_is_read_with_and_without_its_norm():
    class Raw(SmallDetector):
        def extract_feat(self, x):
            x = self.stem(x)
            return (self.relu(self.depthwise(self.act(self.norm(x)) + x)),)

    detector = Raw().eval()
    detector.norm.running_mean.normal_()
    mean = detector.norm.running_mean.clone()
    before, after = _folded(detector)
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(detector.norm.running_mean, mean, atol=1e-5)
    assert detector.stem.bias is not None


def test_a_convolution_of_pixels_and_features_is_refused():
    class Twice(SmallDetector):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, 1, 1)

        def extract_feat(self, x):
            return super().extract_feat(self.first(self.first(x).relu()))

    with pytest.raises(UserError, match='first: expected .* both'):
        find_stems(Twice().eval())
