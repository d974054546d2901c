from .activation import QuantActivation
from .add import QuantAdd
from .conv_module import QuantConvModule
from .multi_level_norm import MultiLevelBN, tag_levels, track_levels
from .multiply import QuantMultiply
from .pool import QuantAvgPool, QuantMean, QuantPool
from .regions import QuantRoIExtractor
from .weighted import QuantConv2d, QuantizedLayer, QuantLinear

__all__ = [
    'MultiLevelBN',
    'QuantActivation',
    'QuantAdd',
    'QuantAvgPool',
    'QuantConv2d',
    'QuantConvModule',
    'QuantLinear',
    'QuantMean',
    'QuantMultiply',
    'QuantPool',
    'QuantRoIExtractor',
    'QuantizedLayer',
    'tag_levels',
    'track_levels',
]
