"""Features of regions, read from maps on an integer grid."""

from typing import Any

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from ..quantizers.grid import activation_grid, check_bits
from ..quantizers.quantizer import TensorQuantizer
from ..registry import MODELS
from .kinds import Replacement
from .pool import PoolOptions


@MODELS.register_module()
class QuantRoIExtractor(nn.Module):
    """An extractor of regions whose maps are rounded, all to one grid.

    Args:
        extractor: mmdet's, which aligns regions and averages in them.
        bits: Width of the maps' codes, 2 to 8.
        grid: ``unsigned``, ``signed`` or ``leaky``.
    """

    def __init__(
        self, extractor: nn.Module, bits: int = 8, grid: str = 'unsigned'
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.input_quantizer = TensorQuantizer(
            activation_grid(grid, check_bits(bits))
        )

    @property
    def num_inputs(self) -> int:
        """How many maps it reads, from the finest."""
        extractor: Any = self.extractor
        return extractor.num_inputs

    @property
    def featmap_strides(self) -> list[int]:
        """Strides of these maps."""
        extractor: Any = self.extractor
        return extractor.featmap_strides

    def forward(self, feats: Any, rois: Tensor, *args: Any) -> Tensor:
        """Return the features of regions; arguments as of mmdet's."""
        return self.extractor(
            tuple(map(self.input_quantizer, feats)), rois, *args
        )


def _is_extractor(module: nn.Module) -> bool:
    return type(module) is SingleRoIExtractor


def _build(
    extractor: nn.Module, options: PoolOptions, bits: int
) -> QuantRoIExtractor:
    return QuantRoIExtractor(extractor, options.bits, options.grid)


ROI_EXTRACTOR = Replacement('pool', PoolOptions, _is_extractor, _build)
