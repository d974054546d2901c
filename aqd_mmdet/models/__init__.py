from ..layers import MultiLevelBN, QuantConv2d  # registers the layers
from .pretrained import PretrainedRawImage
from .quantized_detector import QuantizedDetector, quantize_detector
from .recipe import Rule, read_recipe
from .ssd_head import SSDHead

__all__ = [
    'MultiLevelBN',
    'PretrainedRawImage',
    'QuantConv2d',
    'QuantizedDetector',
    'Rule',
    'SSDHead',
    'quantize_detector',
    'read_recipe',
]
