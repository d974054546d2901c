"""The rules by which layers and operators of PyTorch become integers.

A rule is a function that is registered for what it lowers. Layers that have
one are captured as one opaque operator each; see ``compiler/trace.py``.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Rule = TypeVar('Rule', bound=Callable)
# By the exact class of the layer: (builder, call, layer) -> value.
LAYER_RULES: dict[type[nn.Module], Callable] = {}
# By the operator's overload: (builder, node) -> value.
OPERATOR_RULES: dict[Any, Callable] = {}
# Of these the operators that read maps that were flattened: number by number.
OF_FLAT_MAPS: set[Any] = set()


def lowers(*targets: Any) -> Callable[[Rule], Rule]:
    """Register a rule.

    Args:
        *targets: Classes of layers, or operators of PyTorch.
    """

    def register(rule: Rule) -> Rule:
        for target in targets:
            is_layer = isinstance(target, type)
            (LAYER_RULES if is_layer else OPERATOR_RULES)[target] = rule
        return rule

    return register
