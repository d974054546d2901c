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


@pytest.mark.parametrize(
    'kind, message',
    [
        (OnlyFirst, 'OnlyFirst finds its boxes as OnlyFirst does'),
        (RPN, 'RPN ends with its proposals, each level suppressed by'),
        (nn.Module, 'Module finds its boxes as Module does'),
    ],
)
def test_detectors_that_do_more_than_their_heads(kind, message):
    detector = nn.Module.__new__(kind)
    nn.Module.__init__(detector)
    detector.bbox_head = RPNHead(8)
    with pytest.raises(UserError, match=message):
        need_known_detector(detector)


@pytest.mark.parametrize('name', ['RetinaNet', 'FCOS', 'YOLOX', 'PAA'])
def test_detectors_of_mmdet(name):
    kind = MODELS.get(f'mmdet.{name}')
    detector = nn.Module.__new__(kind)
    nn.Module.__init__(detector)
    detector.bbox_head = RetinaHead(10, 8)
    need_known_detector(detector)
