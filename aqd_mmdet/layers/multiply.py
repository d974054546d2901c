"""Products of maps on integer grids: the gates of attention."""

import ast
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..quantizers.grid import activation_grid, check_bits
from ..quantizers.quantizer import Quantizer, TensorQuantizer
from ..registry import MODELS
from .kinds import Operation, are_tensors


@dataclass(frozen=True)
class MultiplyOptions:
    """How the products of a module are quantised; see QuantMultiply."""

    bits: int = 8
    grid: str = 'signed'

    def __post_init__(self) -> None:
        activation_grid(self.grid, check_bits(self.bits))


@MODELS.register_module()
class QuantMultiply(nn.Module):
    """Multiplies two maps, each rounded to a grid of its own.

    Args:
        bits: Width of both, 2 to 8.
        grid: Of both: ``unsigned``, ``signed`` or ``leaky``.
    """

    def __init__(self, bits: int = 8, grid: str = 'signed') -> None:
        super().__init__()
        shared = activation_grid(grid, check_bits(bits))
        self.quantizers = nn.ModuleList(
            TensorQuantizer(shared) for _ in range(2)
        )

    @property
    def operands(self) -> tuple[Quantizer, Quantizer]:
        """The quantisers of both maps."""
        left, right = self.quantizers
        assert isinstance(left, Quantizer) and isinstance(right, Quantizer)
        return left, right

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the product (N, C, H, W); one may be (N, C, 1, 1).

        The product with a number is left as it is: loops multiply 1.
        """
        if not are_tensors(x, y):
            return x * y
        left, right = self.operands
        return left(x) * right(y)

    def output_shape(
        self, x: Sequence[int], y: Sequence[int]
    ) -> Sequence[int]:
        """Return the shape of the product for those of both maps."""
        return y if x[2:] == (1, 1) else x


def _can_multiply(x: Tensor, y: Tensor) -> bool:
    # An attention's gates may have one value for a whole map.
    gates = (x.shape[2:] == (1, 1)) != (y.shape[2:] == (1, 1))
    return x.shape[:2] == y.shape[:2] and (gates or x.shape == y.shape)


def _build(options: MultiplyOptions) -> QuantMultiply:
    return QuantMultiply(options.bits, options.grid)


MULTIPLY = Operation(
    rule='mul',
    options=MultiplyOptions,
    child='muls',
    sign=ast.Mult,
    functions=(operator.mul, operator.imul),
    applies=_can_multiply,
    build=_build,
)
