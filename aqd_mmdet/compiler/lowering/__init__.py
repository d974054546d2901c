"""How layers and operators become integers: a file for each kind of layer."""

from importlib import import_module
from pkgutil import iter_modules

from .rules import LAYER_RULES, OPERATOR_RULES

__all__ = ['LAYER_RULES', 'OPERATOR_RULES']

# Importing a file registers its rules. All files of this folder are imported.
for _file in iter_modules(__path__):
    import_module(f'{__name__}.{_file.name}')
