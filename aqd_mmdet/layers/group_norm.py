"""Group norm of codes: statistics of the image itself, as they come."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..program.ops import MAX_SUMMAND, NORM_BITS
from ..quantizers.grid import activation_grid, check_bits
from ..quantizers.quantizer import TensorQuantizer
from ..registry import MODELS
from .kinds import Replacement

# Normalised values are codes of 16 bits in the program.
NORM_GRID = activation_grid('signed', 16)
LIMIT = NORM_GRID.hi / 2**NORM_BITS


@dataclass(frozen=True)
class GroupNormOptions:
    """How a group norm is quantised; see QuantGroupNorm."""

    bits: int = 8
    grid: str = 'signed'

    def __post_init__(self) -> None:
        grid = activation_grid(self.grid, check_bits(self.bits, wide=True))
        if grid.hi > MAX_SUMMAND:
            raise UserError(
                f'bits={self.bits} with grid={self.grid!r} of a group norm: '
                f'expected codes up to {MAX_SUMMAND}, found {grid.hi}; take '
                "grid='signed'"
            )


@MODELS.register_module()
class QuantGroupNorm(nn.GroupNorm):
    """A group norm of the rounded input.

    Normalised values are limited to 8 standard deviations, as in the integer
    program. The factors and offsets of the channels follow. The program
    folds these into what reads them.

    Args:
        num_groups, num_channels, eps, affine: As of ``torch.nn.GroupNorm``.
        bits: Width of the input's codes, 2 to 8 or 16.
        grid: ``signed``, ``unsigned`` or ``leaky``.
    """

    # The name that mmcv gives a GN in a ConvModule.
    _abbr_ = 'gn'

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        bits: int = 8,
        grid: str = 'signed',
    ) -> None:
        super().__init__(num_groups, num_channels, eps, affine)
        options = GroupNormOptions(bits, grid)
        self.input_quantizer = TensorQuantizer(
            activation_grid(options.grid, options.bits)
        )

    @classmethod
    def from_float(
        cls, norm: nn.GroupNorm, options: GroupNormOptions
    ) -> 'QuantGroupNorm':
        """Return the layer that stands for a float one, with its parameters.

        Args:
            norm: The float layer.
            options: How its input is quantised.
        """
        layer = cls(
            norm.num_groups,
            norm.num_channels,
            norm.eps,
            norm.affine,
            options.bits,
            options.grid,
        )
        layer.weight, layer.bias = norm.weight, norm.bias
        return layer.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of ``x`` (N, C, H, W), in its shape."""
        codes = self.input_quantizer(x)
        normalised = F.group_norm(codes, self.num_groups, eps=self.eps)
        normalised = normalised.clamp(-LIMIT, LIMIT)
        if not self.affine:
            return normalised
        weight, bias = (p[:, None, None] for p in (self.weight, self.bias))
        return normalised * weight + bias

    def output_shape(self, x: Sequence[int]) -> Sequence[int]:
        """Return the shape of the output for that of the input."""
        return x


def _is_group_norm(module: nn.Module) -> bool:
    return type(module) is nn.GroupNorm


def _build(
    module: nn.GroupNorm, options: GroupNormOptions, bits: int
) -> QuantGroupNorm:
    return QuantGroupNorm.from_float(module, options)


GROUP_NORM = Replacement(
    'group_norm', GroupNormOptions, _is_group_norm, _build
)
