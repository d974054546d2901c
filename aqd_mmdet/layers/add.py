"""Additions on an integer grid: residuals and feature pyramids."""

import ast
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from ..quantizers.fake_quantize import fake_quantize_sum, step_size
from ..quantizers.grid import Grid, build_grid, check_bits
from ..quantizers.quantizer import Quantizer, Rounding
from ..registry import MODELS
from .kinds import Operation, are_tensors


@dataclass(frozen=True)
class AddOptions:
    """How the additions of a module are quantised; see QuantAdd."""

    bits: int = 8
    signed: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits, wide=True)


class Saturation(Rounding):
    """Of a sum of rounded values, all that is left to do."""

    cuts_negatives = True

    def __call__(self, x: Tensor) -> Tensor:
        step = step_size(self.clip, self.grid)
        return x.clamp(self.grid.lo * step, self.grid.hi * step)


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

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the rounded and saturated sum of two equal shapes.

        The sum with a number is left as it is: loops add to 0.

        Raises:
            UserError: If the shapes differ.
        """
        if not are_tensors(x, y):
            return x + y
        if x.shape != y.shape:
            raise UserError(
                f'a quantised addition has operands of {tuple(x.shape)} and '
                f'{tuple(y.shape)}, and adds equal shapes alone: no rule '
                "with 'add' may match its module"
            )
        if self.hook is None:
            self.need_start()
            limit = self.branch_grid().hi
            return fake_quantize_sum(x, y, self.clip, limit, self.grid)
        # The same, rounding by rounding, for the hook.
        left, right = (self.rounded(z, self._branch()) for z in (x, y))
        total = left + right
        return self.rounded(total, Saturation(self, self.clip, self.grid))

    def output_shape(
        self, x: Sequence[int], y: Sequence[int]
    ) -> Sequence[int]:
        """Return the shape of the sum for those of both operands."""
        return x

    def _branch(self) -> Rounding:
        # The branches share the step of the sum's grid, not its range.
        grid = self.branch_grid()
        return Rounding(self, self.clip * (grid.hi / self.grid.hi), grid)

    def branch_grid(self) -> Grid:
        """Return the grid that both branches are rounded to."""
        # Wide enough that a branch saturates only where the sum of both
        # would, unless the other is as large and of the opposite sign.
        limit = 2 ** (self.grid.bits + 2)
        return Grid(self.grid.bits + 3, -limit, limit)

    @torch.no_grad()
    def codes(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the int32 codes of the sum."""
        total = self.forward(x, y)
        return Rounding(self, self.clip, self.grid).codes(total)


def _can_add(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and y.is_floating_point()


def _build(options: AddOptions) -> QuantAdd:
    return QuantAdd(options.bits, options.signed)


ADD = Operation(
    rule='add',
    options=AddOptions,
    child='adds',
    sign=ast.Add,
    functions=(operator.add, operator.iadd),
    applies=_can_add,
    build=_build,
)
