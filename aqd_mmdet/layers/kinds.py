"""Kinds of layers: what each stands for in a float detector.

A file of a layer says so of itself; :mod:`aqd_mmdet.layers` lists them.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Kind:
    """A kind of quantised layer.

    Attributes:
        rule: Key of the rules of a recipe that choose it.
        options: Class of what such a rule says.
    """

    rule: str
    options: type


@dataclass(frozen=True)
class Replacement(Kind):
    """A layer that stands for modules.

    Attributes:
        applies: Whether it can stand for a module.
        build: Makes it from the module, the options and the detector's bits.
    """

    applies: Callable[[nn.Module], bool]
    build: Callable[[Any, Any, int], nn.Module]


@dataclass(frozen=True)
class Operation(Kind):
    """A layer that stands for signs in the methods of modules.

    Attributes:
        child: Name of a module's child that holds its layers.
        sign: The sign, or the name of a function of one tensor.
        functions: What it computes, and what it computes in place.
        applies: Whether the layer can take operands, which are maps.
        build: Makes it from the options.
    """

    child: str
    sign: type[ast.operator] | str
    functions: tuple[Callable, Callable]
    applies: Callable[..., bool]
    build: Callable[[Any], nn.Module]


def are_tensors(*operands: object) -> bool:
    """Say whether all operands are tensors, none of them a number."""
    return all(isinstance(x, Tensor) for x in operands)
