"""mmdet's SSD head, able to predict."""

from mmdet.models.dense_heads import SSDHead as _SSDHead

from ..registry import MODELS


@MODELS.register_module()
class SSDHead(_SSDHead):
    """mmdet's head, with the attribute that its ``predict_by_feat`` reads.

    In mmdet 3.3 the base class asks ``loss_cls`` whether scores are made in
    a way of its own; SSD's losses are functions, and it has none.
    """

    loss_cls = None
