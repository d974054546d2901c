"""Detectors that a step of training is measured of, ours and others'."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao import quantization

from ..layers.multi_level_norm import hand_on_level
from ..models.quantized_detector import quantized_layers
from ..quantizers.quantizer import ImageQuantizer


@dataclass(frozen=True)
class Variant:
    """A way to train a detector.

    Attributes:
        name: On the command line and in tables.
        bits: ``float``, or the width of weights and activations.
        library: What rounds: ``ours``, or a key of :data:`LAYERS`.
    """

    name: str
    bits: int | str
    library: str


VARIANTS = (
    Variant('float', 'float', 'ours'),
    *(Variant(f'aqd-{bits}', bits, 'ours') for bits in (8, 4, 3, 2)),
    *(
        Variant(f'{library}-{bits}', bits, library)
        for library in ('lsq', 'pytorch', 'brevitas')
        for bits in (8, 2)
    ),
)


class LsqConv2d(nn.Conv2d):
    """A convolution as PyTorch's own operators quantise it in training.

    Learned step sizes (Esser et al., LSQ) of weights and input, by
    ``torch._fake_quantize_learnable_per_tensor_affine``.
    """

    zero: Tensor

    def __init__(self, widths: tuple[int, int], *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.widths = widths
        self.scales = nn.Parameter(torch.full((2,), 0.1))
        self.register_buffer('zero', torch.zeros(1))

    def _rounded(self, x: Tensor, which: int, lo: int, hi: int) -> Tensor:
        return torch._fake_quantize_learnable_per_tensor_affine(
            x, self.scales[which : which + 1], self.zero, lo, hi, 1.0
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the rounded ``x`` with the rounded weights."""
        weight_bits, act_bits = self.widths
        half = 2 ** (weight_bits - 1)
        weight = self._rounded(self.weight, 0, -half, half - 1)
        x = self._rounded(x, 1, 0, 2**act_bits - 1)
        return self._conv_forward(x, weight, self.bias)


class PytorchConv2d(nn.Conv2d):
    """A convolution with the fake quantisers that PyTorch's export inserts.

    Ranges are moving averages of the least and the largest value, of weights
    for each output channel (``prepare_qat_pt2e`` of torchao).
    """

    def __init__(self, widths: tuple[int, int], *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        weight_bits, act_bits = widths
        half = 2 ** (weight_bits - 1)
        self.weight_fake_quant = (
            quantization.default_fused_per_channel_wt_fake_quant(
                quant_min=-half, quant_max=half - 1
            )
        )
        self.input_fake_quant = quantization.default_fused_act_fake_quant(
            quant_min=0, quant_max=2**act_bits - 1
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the rounded ``x`` with the rounded weights."""
        weight = self.weight_fake_quant(self.weight)
        return self._conv_forward(self.input_fake_quant(x), weight, self.bias)


def _brevitas_conv(widths: tuple[int, int], *args: Any, **kwargs: Any) -> Any:
    from brevitas.nn import QuantConv2d
    from brevitas.quant import Uint8ActPerTensorFloat

    return QuantConv2d(
        *args,
        **kwargs,
        weight_bit_width=widths[0],
        input_quant=Uint8ActPerTensorFloat,
        input_bit_width=widths[1],
    )


# Makes a convolution of another library for widths of weights and input.
LAYERS: dict[str, Callable[..., nn.Module]] = {
    'lsq': LsqConv2d,
    'pytorch': PytorchConv2d,
    'brevitas': _brevitas_conv,
}
PACKAGES = {
    'ours': (),
    'lsq': (),
    'pytorch': (),
    'brevitas': ('brevitas',),
}


def installed() -> list[Variant]:
    """Return the variants whose packages are here."""
    return [
        variant
        for variant in VARIANTS
        if all(map(find_spec, PACKAGES[variant.library]))
    ]


def use_layers(detector: nn.Module, library: str) -> None:
    """Exchange our layers for those of a library, of the same widths.

    A stem that reads pixels stays: it rounds its weights alone, and others
    would cut off what lies below the mean.

    Args:
        detector: Whose convolutions are exchanged, without their weights.
        library: Key of :data:`LAYERS`.
    """
    for name, layer in quantized_layers(detector).items():
        reads_pixels = isinstance(layer.input_quantizer, ImageQuantizer)
        if reads_pixels or not isinstance(layer, nn.Conv2d):
            continue
        parent, _, child = name.rpartition('.')
        widths = (
            layer.weight_quantizer.grid.bits,
            layer.input_quantizer.grid.bits,
        )
        other = LAYERS[library](
            widths,
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
        )
        other.register_forward_hook(hand_on_level)
        setattr(detector.get_submodule(parent), child, other)
