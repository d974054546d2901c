"""How layers and operators become integers: a file for each kind of layer."""

# Importing a module registers its rules.
from . import activation, add, aten, conv, multiply, pool, rois
from .rules import LAYER_RULES, OPERATOR_RULES

__all__ = [
    'LAYER_RULES',
    'OPERATOR_RULES',
    'activation',
    'add',
    'aten',
    'conv',
    'multiply',
    'pool',
    'rois',
]
