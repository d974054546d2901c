from .activation import QuantActivation
from .add import QuantAdd
from .conv_module import QuantConvModule
from .multi_level_norm import MultiLevelBN, tag_levels, track_levels
from .weighted import QuantConv2d, QuantizedLayer, QuantLinear

__all__ = [
    'MultiLevelBN',
    'QuantActivation',
    'QuantAdd',
    'QuantConv2d',
    'QuantConvModule',
    'QuantLinear',
    'QuantizedLayer',
    'tag_levels',
    'track_levels',
]
