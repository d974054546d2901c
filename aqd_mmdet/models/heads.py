"""Heads of mmdet that differ from its own where a program needs it.

Their parameters have mmdet's names, so that its checkpoints load.
"""

from typing import Any

from mmdet.models.dense_heads import SSDHead as _SSDHead
from mmdet.models.dense_heads import YOLOFHead as _YOLOFHead
from mmengine.config import Config
from torch import Tensor
from torch.nn.functional import softplus

from ..config import class_of
from ..registry import MODELS

Maps = list[Tensor]


@MODELS.register_module()
class SSDHead(_SSDHead):
    """mmdet's head, with the attribute that its ``predict_by_feat`` reads.

    In mmdet 3.3 the base class asks ``loss_cls`` whether scores are made in
    a way of its own; SSD's losses are functions, and it has none.
    """

    loss_cls = None


@MODELS.register_module()
class YOLOFHead(_YOLOFHead):
    """mmdet's head, whose network ends with logits and objectness.

    mmdet's forward joins both to one logit. Its sigmoid is the product of
    theirs, which is what a program makes of them. Here they are joined behind
    the network, for the losses and for mmdet's own search of boxes.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, A * C, H, W), box codes and objectness."""
        regression = self.bbox_subnet(x)
        return (
            self.cls_score(self.cls_subnet(x)),
            self.bbox_pred(regression),
            self.object_pred(regression),
        )

    def loss_by_feat(
        self, logits: Maps, boxes: Maps, objectness: Maps, *args: Any
    ) -> dict:
        """Return mmdet's losses of the joined logits."""
        return super().loss_by_feat(joined(logits, objectness), boxes, *args)

    def predict_by_feat(
        self, logits: Maps, boxes: Maps, objectness: Maps, **kwargs: Any
    ) -> list:
        """Return what mmdet finds by the joined logits."""
        maps = joined(logits, objectness)
        return super().predict_by_feat(maps, boxes, **kwargs)


def joined(logits: Maps, objectness: Maps) -> Maps:
    """Return logits whose sigmoids are products of two sigmoids.

    Args:
        logits: Of each level (N, A * C, H, W), for A anchors.
        objectness: Of each level (N, A, H, W).
    """
    return [_joined(*pair) for pair in zip(logits, objectness, strict=True)]


def _joined(logits: Tensor, objectness: Tensor) -> Tensor:
    x = logits.unflatten(1, (objectness.shape[1], -1))
    y = objectness[:, :, None]
    # mmdet's x + y - log(1 + exp(x) + exp(y)), for numbers of any size.
    return (x + y - softplus(x).logaddexp(y)).flatten(1, 2)


def use_own_heads(cfg: Config) -> None:
    """Put this module's heads in the place of mmdet's of the same names.

    Args:
        cfg: A config; its ``model.bbox_head`` is changed.
    """
    head = cfg.model.get('bbox_head')
    if not isinstance(head, dict) or 'type' not in head:
        return
    # Another package may have registered a head of the same name. Without a
    # scope the name is that of the head here.
    found = class_of(MODELS, head['type'])
    for cls, theirs in ((SSDHead, _SSDHead), (YOLOFHead, _YOLOFHead)):
        if found in (cls, theirs):
            head['type'] = f'aqd_mmdet.{cls.__name__}'
