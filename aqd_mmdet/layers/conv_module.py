"""mmcv's ConvModule with a quantised convolution."""

from typing import Any

from mmcv.cnn import ConvModule

from ..registry import MODELS


@MODELS.register_module()
class QuantConvModule(ConvModule):
    """Convolution, norm and activation, the convolution quantised.

    Args:
        conv_cfg: Arguments of QuantConv2d that Conv2d does not have, such as
            ``dict(weight_bits=2, act_bits=2)``.
        *args, **kwargs: As of ``mmcv.cnn.ConvModule``.
    """

    def __init__(
        self, *args: Any, conv_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        conv_cfg = {'type': 'aqd_mmdet.QuantConv2d', **(conv_cfg or {})}
        super().__init__(*args, conv_cfg=conv_cfg, **kwargs)
