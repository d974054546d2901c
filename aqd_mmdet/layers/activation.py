"""Activations that are no clamp, on an integer grid: SiLU, LeakyReLU, ..."""

from dataclasses import dataclass
from typing import Any

from mmcv.cnn.bricks import HSigmoid, HSwish, Swish
from torch import Tensor, nn

from ..quantizers.grid import build_grid, check_bits
from ..quantizers.quantizer import TensorQuantizer
from ..registry import MODELS
from .kinds import Replacement

# Functions of one number. A ReLU is a clamp, which costs nothing.
FUNCTIONS: tuple[type, ...] = (
    nn.SiLU,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Tanh,
    nn.ELU,
    nn.GELU,
    nn.Mish,
    Swish,
    HSwish,
    HSigmoid,
)


@dataclass(frozen=True)
class ActivationOptions:
    """How an activation that is no clamp is quantised; see QuantActivation."""

    bits: int = 8

    def __post_init__(self) -> None:
        check_bits(self.bits)


@MODELS.register_module()
class QuantActivation(TensorQuantizer):
    """Rounds its input to a signed grid, then applies a function.

    What it can give is then one value for each code, so that an integer
    program needs a table and nothing else.

    Args:
        function: The activation: a module, or a config that mmengine builds.
        bits: Width of the input's codes, 2 to 8.
    """

    def __init__(self, function: Any, bits: int = 8) -> None:
        super().__init__(build_grid('signed', check_bits(bits)))
        if not isinstance(function, nn.Module):
            function = MODELS.build(function)
        if hasattr(function, 'inplace'):
            function.inplace = False  # the rounded input is kept for gradients
        self.function: nn.Module = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of the rounded ``x``, in its shape."""
        return self.function(super().forward(x))


def _is_function(module: nn.Module) -> bool:
    return type(module) in FUNCTIONS


def _build(
    module: nn.Module, options: ActivationOptions, bits: int
) -> QuantActivation:
    return QuantActivation(module, options.bits)


ACTIVATION = Replacement('act', ActivationOptions, _is_function, _build)
