"""Detectors that do more than their heads."""

import pytest
from mmdet.models import RPN, SingleStageDetector
from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.compiler.detectors import need_known_detector
from aqd_mmdet.errors import UserError


class OnlyFirst(SingleStageDetector):
    def predict(self, *args, **kwargs):
        return super().predict(*args, **kwargs)[:1]


class _Shifted(SingleStageDetector):
    def predict(self, *args, **kwargs):
        return super().predict(*args, **kwargs)


# Of another package, with the name of mmdet's.
_Shifted.__name__ = 'SingleStageDetector'


class Kept(SingleStageDetector):
    def loss(self, *args, **kwargs):
        return super().loss(*args, **kwargs)


def _detector_of(kind):
    detector = nn.Module.__new__(kind)
    nn.Module.__init__(detector)
    return detector


@pytest.mark.parametrize(
    'kind, message',
    [
        (_Shifted, rf'as {__name__}\.SingleStageDetector does'),
        (
            OnlyFirst,
            rf'OnlyFirst finds its boxes as {__name__}\.OnlyFirst does',
        ),
        (RPN, 'RPN ends with its proposals, each level suppressed by'),
        (nn.Module, r'Module finds its boxes as torch\.[a-z.]*\.Module does'),
    ],
)
def test_detectors_that_do_more_than_their_heads(kind, message):
    detector = _detector_of(kind)
    detector.bbox_head = RPNHead(8)
    with pytest.raises(UserError, match=message):
        need_known_detector(detector)


@pytest.mark.parametrize('name', ['RetinaNet', 'FCOS', 'YOLOX', 'PAA'])
def test_detectors_of_mmdet(name):
    detector = _detector_of(MODELS.get(f'mmdet.{name}'))
    detector.bbox_head = RetinaHead(10, 8)
    need_known_detector(detector)


def test_a_subclass_that_finds_boxes_as_mmdets():
    detector = _detector_of(Kept)
    detector.bbox_head = RetinaHead(10, 8)
    need_known_detector(detector)
