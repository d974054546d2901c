"""Averages on integer grids: pooling by windows, and of whole maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from mmdet.models.layers.brick_wrappers import AdaptiveAvgPool2d
from torch import Tensor, nn

from ..errors import UserError
from ..quantizers.grid import activation_grid, check_bits
from ..quantizers.quantizer import TensorQuantizer
from ..registry import MODELS
from .kinds import Replacement
from .shapes import windows


@dataclass(frozen=True)
class PoolOptions:
    """How averages are quantised: of windows, of maps, of regions.

    See QuantAvgPool, QuantMean, QuantRoIExtractor.
    """

    bits: int = 8
    grid: str = 'unsigned'

    def __post_init__(self) -> None:
        activation_grid(self.grid, check_bits(self.bits))


class QuantPool(nn.Module):
    """What both share: the quantiser of the input.

    Args:
        bits: Width of the input's codes, 2 to 8.
        grid: ``unsigned``, ``signed`` or ``leaky``.
    """

    def __init__(self, bits: int, grid: str) -> None:
        super().__init__()
        self.input_quantizer = TensorQuantizer(
            activation_grid(grid, check_bits(bits))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return averages of ``x`` (N, C, H, W), rounded."""
        return self.average(self.input_quantizer(x))

    def average(self, x: Tensor) -> Tensor:
        """Return the averages of rounded values."""
        raise NotImplementedError


@MODELS.register_module()
class QuantAvgPool(QuantPool):
    """The average of each window of the rounded input, its border being 0.

    Args:
        kernel_size, stride, padding: As of ``torch.nn.AvgPool2d``, two
            numbers each.
        bits, grid: As of :class:`QuantPool`.
        whole: Whether windows have to divide the map.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        bits: int = 8,
        grid: str = 'unsigned',
        whole: bool = False,
    ) -> None:
        super().__init__(bits, grid)
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.whole = whole

    @classmethod
    def from_float(
        cls, pool: nn.AvgPool2d, bits: int, grid: str
    ) -> 'QuantAvgPool':
        """Return the quantised layer that stands for a float one.

        Raises:
            UserError: If windows that reach over the border are shorter.
        """
        kernel, stride, padding = (
            (x, x) if isinstance(x, int) else (x[0], x[1])
            for x in (pool.kernel_size, pool.stride, pool.padding)
        )
        # Without a border only ceil_mode means something, and nothing where
        # windows divide the map, as in a backbone whose image has a multiple
        # of its strides.
        plain = padding == (0, 0) and kernel == stride
        odd = pool.ceil_mode or not pool.count_include_pad
        if (odd and not plain) or pool.divisor_override:
            raise UserError(
                f'{pool}: an average over a window has one divisor; set '
                'ceil_mode=False and count_include_pad=True'
            )
        return cls(kernel, stride, padding, bits, grid, whole=pool.ceil_mode)

    def average(self, x: Tensor) -> Tensor:
        """Return the averages of rounded values."""
        self._check(x.shape)
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding)

    def output_shape(self, x: Sequence[int]) -> Sequence[int]:
        """Return the shape of the averages for that of the map."""
        self._check(x)
        return (
            *x[:2],
            *windows(x[2:], self.kernel_size, self.stride, self.padding),
        )

    def _check(self, x: Sequence[int]) -> None:
        sides = zip(x[2:], self.kernel_size, strict=True)
        if self.whole and any(side % window for side, window in sides):
            raise UserError(
                f'windows of {self.kernel_size} do not divide a map of '
                f'{tuple(x[2:])}, and an average over a part of one has '
                'another divisor: give data_preprocessor.pad_size_divisor, '
                'or ceil_mode=False and count_include_pad=True'
            )


@MODELS.register_module()
class QuantMean(QuantPool):
    """The average of each rounded map.

    Args:
        bits, grid: As of :class:`QuantPool`.
    """

    def __init__(self, bits: int = 8, grid: str = 'unsigned') -> None:
        super().__init__(bits, grid)

    def average(self, x: Tensor) -> Tensor:
        """Return the averages of rounded values, (N, C, 1, 1)."""
        return x.mean((2, 3), keepdim=True)

    def output_shape(self, x: Sequence[int]) -> Sequence[int]:
        """Return the shape of the averages for that of the map."""
        return (*x[:2], 1, 1)


# mmdet's serves maps without pixels as well.
_MEANS = (nn.AdaptiveAvgPool2d.forward, AdaptiveAvgPool2d.forward)


def _is_window(module: nn.Module) -> bool:
    return type(module) is nn.AvgPool2d


def _build_windows(
    pool: nn.AvgPool2d, options: PoolOptions, bits: int
) -> QuantAvgPool:
    return QuantAvgPool.from_float(pool, options.bits, options.grid)


def _is_whole(module: nn.Module) -> bool:
    # A subclass may compute something else.
    return (
        isinstance(module, nn.AdaptiveAvgPool2d)
        and type(module).forward in _MEANS
        and module.output_size in (1, (1, 1))
    )


def _build_mean(
    module: nn.Module, options: PoolOptions, bits: int
) -> QuantMean:
    return QuantMean(options.bits, options.grid)


AVG_POOL = Replacement('pool', PoolOptions, _is_window, _build_windows)
MEAN = Replacement('pool', PoolOptions, _is_whole, _build_mean)
