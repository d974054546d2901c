"""The registries of this package, children of mmengine's registries.

Configs of any OpenMMLab package can name everything that is registered here
by its scoped name: ``dict(type='aqd_mmdet.QuantConv2d', ...)``.
"""

try:
    import mmcv  # noqa: F401
    import mmdet  # noqa: F401
    from mmengine.registry import HOOKS as MMENGINE_HOOKS
    from mmengine.registry import MODELS as MMENGINE_MODELS
    from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
    from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_INITIALIZERS
    from mmengine.registry import Registry
except ModuleNotFoundError as error:
    raise ImportError(
        'aqd_mmdet trains with MMDetection 3, but '
        f'{error.name} is not installed: pip install onedl-mmengine '
        'onedl-mmcv onedl-mmdetection (maintained forks), or mmengine mmcv '
        'mmdet; not both'
    ) from error

SCOPE = 'aqd_mmdet'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE)
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=MMENGINE_INITIALIZERS, scope=SCOPE
)
# Grids of codes: functions from a bit width to a Grid.
GRIDS = Registry('grid', scope=SCOPE)
# Functions that return the clip value at the start of training.
STARTS = Registry('start', scope=SCOPE)
