from ..layers import MultiLevelBN, QuantConv2d  # registers the layers
from .heads import SSDHead, YOLOFHead
from .pretrained import PretrainedRawImage
from .quantized_detector import QuantizedDetector, quantize_detector
from .recipe import Rule, read_recipe

__all__ = [
    'MultiLevelBN',
    'PretrainedRawImage',
    'QuantConv2d',
    'QuantizedDetector',
    'Rule',
    'SSDHead',
    'YOLOFHead',
    'quantize_detector',
    'read_recipe',
]
