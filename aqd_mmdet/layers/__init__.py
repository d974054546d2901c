from .activation import (
    ACTIVATION,
    SIGMOID,
    FixedPointActivation,
    QuantActivation,
)
from .add import ADD, QuantAdd
from .conv_module import QuantConvModule
from .group_norm import GROUP_NORM, QuantGroupNorm
from .kinds import Kind
from .multi_level_norm import MultiLevelBN, tag_levels, track_levels
from .multiply import MULTIPLY, QuantMultiply
from .pool import AVG_POOL, MEAN, QuantAvgPool, QuantMean, QuantPool
from .regions import ROI_EXTRACTOR, QuantRoIExtractor
from .weighted import (
    CONV,
    LINEAR,
    QuantConv2d,
    QuantizedLayer,
    QuantLinear,
    share_weights,
)

# All that a recipe can choose, besides norms of levels.
KINDS: tuple[Kind, ...] = (
    CONV,
    LINEAR,
    ADD,
    MULTIPLY,
    ACTIVATION,
    SIGMOID,
    AVG_POOL,
    MEAN,
    GROUP_NORM,
    ROI_EXTRACTOR,
)

__all__ = [
    'KINDS',
    'FixedPointActivation',
    'MultiLevelBN',
    'QuantActivation',
    'QuantAdd',
    'QuantAvgPool',
    'QuantConv2d',
    'QuantConvModule',
    'QuantGroupNorm',
    'QuantLinear',
    'QuantMean',
    'QuantMultiply',
    'QuantPool',
    'QuantRoIExtractor',
    'QuantizedLayer',
    'share_weights',
    'tag_levels',
    'track_levels',
]
