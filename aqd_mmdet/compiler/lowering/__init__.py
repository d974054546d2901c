"""How layers and operators become integers: a file for each kind of layer."""

import importlib
import pkgutil

from .rules import LAYER_RULES, OF_FLAT_MAPS, OPERATOR_RULES

__all__ = ['LAYER_RULES', 'OF_FLAT_MAPS', 'OPERATOR_RULES']

# Importing a module registers its rules.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')
