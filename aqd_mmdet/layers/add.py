"""Additions on an integer grid: residuals and feature pyramids."""

import torch
from torch import Tensor

from ..quantizers.fake_quantize import fake_quantize, quantize, step_size
from ..quantizers.grid import Grid, build_grid, check_bits
from ..quantizers.quantizer import Quantizer
from ..registry import MODELS


@MODELS.register_module()
class QuantAdd(Quantizer):
    """Adds two tensors on a grid with a learned clip value.

    Both branches are rounded to the grid's step, added, and the sum is
    saturated to the grid (AQD, section 3.3; the learned grid is ours: the
    published addition keeps a wide integer, which 16 bits stand for).

    Args:
        bits: Width of the sum, 2 to 8 or 16.
        signed: Whether sums below zero are kept. Where a ReLU follows, as in
            ResNet, an unsigned grid spends no code on what it would remove.
    """

    def __init__(self, bits: int = 8, signed: bool = False) -> None:
        bits = check_bits(bits, wide=True)
        super().__init__(build_grid('signed' if signed else 'unsigned', bits))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Return the rounded and saturated sum of two equal shapes."""
        if self.observer is not None:
            self.observer(x + y)
            return x + y
        return self.saturated_sum(self.rounded(x), self.rounded(y))

    def rounded(self, x: Tensor) -> Tensor:
        """Return one operand, rounded to the grid of branches."""
        self.need_start()
        return fake_quantize(x, self._branch_clip(), self.branch_grid())

    @torch.no_grad()
    def branch_codes(self, x: Tensor) -> Tensor:
        """Return the int32 codes that :meth:`rounded` rounds ``x`` to."""
        self.need_start()
        grid = self.branch_grid()
        return quantize(x, self._branch_clip(), grid).to(torch.int32)

    def saturated_sum(self, x: Tensor, y: Tensor) -> Tensor:
        """Add two rounded operands; saturation is what is left to do."""
        step = step_size(self.clip, self.grid)
        return (x + y).clamp(self.grid.lo * step, self.grid.hi * step)

    def _branch_clip(self) -> Tensor:
        # The branches share the step of the sum's grid, not its range.
        return self.clip * (self.branch_grid().hi / self.grid.hi)

    def branch_grid(self) -> Grid:
        """Return the grid that both branches are rounded to."""
        # Wide enough that a branch saturates only where the sum of both
        # would, unless the other is as large and of the opposite sign.
        limit = 2 ** (self.grid.bits + 2)
        return Grid(self.grid.bits + 3, -limit, limit)

    @torch.no_grad()
    def codes(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Return the int32 codes of the sum."""
        return super().codes(self.forward(x, y))
