"""Products of maps on integer grids: the gates of attention."""

from torch import Tensor, nn

from ..quantizers.grid import build_grid, check_bits
from ..quantizers.quantizer import Quantizer
from ..registry import MODELS


@MODELS.register_module()
class QuantMultiply(nn.Module):
    """Multiplies two maps, each rounded to a grid of its own.

    Args:
        bits: Width of both, 2 to 8.
        grid: Of both: ``unsigned``, ``signed`` or ``leaky``.
    """

    def __init__(self, bits: int = 8, grid: str = 'signed') -> None:
        super().__init__()
        made = build_grid(grid, check_bits(bits))
        self.quantizers = nn.ModuleList([Quantizer(made), Quantizer(made)])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the product (N, C, H, W); one may be (N, C, 1, 1)."""
        left, right = self.quantizers
        return left(x) * right(y)
