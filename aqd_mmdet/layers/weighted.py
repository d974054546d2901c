"""Convolution and linear layers with quantised weights and inputs.

AQD, sections 3.1 and 3.2: each layer owns the quantiser of its input, so two
layers that read one tensor each round it to a grid of their own.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..quantizers.arithmetic import normalized, statistics
from ..quantizers.fake_quantize import fake_quantize_normalized, step_size
from ..quantizers.grid import (
    MAX_BITS,
    activation_grid,
    check_bits,
    weight_grid,
)
from ..quantizers.quantizer import (
    ImageQuantizer,
    Quantizer,
    TensorQuantizer,
    WeightQuantizer,
)
from ..registry import MODELS
from .kinds import Replacement
from .shapes import padding_of, windows

# The grid whose codes all lie between the least and the largest value.
ASYMMETRIC = 'asymmetric'


@dataclass(frozen=True)
class ConvOptions:
    """How a convolution or linear layer is quantised; see QuantConv2d.

    Widths that are None are the detector's own ``bits``.
    """

    weight_bits: int | None = None
    act_bits: int | None = None
    act_grid: str = 'unsigned'
    normalize: bool | None = None
    per_channel: bool = False
    act_per_channel: bool = False

    def __post_init__(self) -> None:
        for name in ('weight_bits', 'act_bits'):
            if getattr(self, name) is not None:
                check_bits(getattr(self, name), name)
        if self.act_grid not in ('image', ASYMMETRIC):
            activation_grid(self.act_grid, self.act_bits or 8)

    def arguments(self, bits: int) -> dict[str, Any]:
        """Return arguments of QuantConv2d, for a detector's bits."""
        return asdict(self) | dict(
            weight_bits=self.weight_bits or bits,
            act_bits=self.act_bits or bits,
        )


class QuantizedLayer(nn.Module):
    """What QuantConv2d and QuantLinear share: two quantisers and a norm.

    It stands before the float layer among the bases of a class.

    Args:
        weight_bits, act_bits, act_grid, normalize, per_channel,
            act_per_channel: As of QuantConv2d.
        *args, **kwargs: As of the float layer.

    Attributes:
        weight_quantizer: Rounds the (normalised) weights.
        input_quantizer: Rounds the input; ``'image'`` inputs are rounded to
            whole pixels instead.
        normalize: Whether weights are brought to mean 0 and deviation 1
            before they are rounded. It is never undone: a norm must follow.
    """

    weight: Tensor
    bias: Any  # a parameter, or None
    weight_quantizer: WeightQuantizer
    input_quantizer: TensorQuantizer | ImageQuantizer
    normalize: bool
    # Rounded weights by whether gradients are wanted, while a head runs.
    shared: dict[bool, Tensor] | None = None

    def __init__(
        self,
        *args: Any,
        weight_bits: int = MAX_BITS,
        act_bits: int = MAX_BITS,
        act_grid: str = 'unsigned',
        normalize: bool | None = None,
        per_channel: bool = False,
        act_per_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)  # of the float layer
        self.normalize = self.bias is None if normalize is None else normalize
        bits = check_bits(weight_bits, 'weight_bits')
        shape = (self.weight.shape[0], *[1] * (self.weight.ndim - 1))
        self.weight_quantizer = WeightQuantizer(
            weight_grid(bits), shape if per_channel else (), self.normalize
        )
        if act_grid == 'image':
            self.input_quantizer = ImageQuantizer()
        else:
            bits = check_bits(act_bits, 'act_bits')
            shape = self._channel_shape() if act_per_channel else ()
            asymmetric = act_grid == ASYMMETRIC
            grid = activation_grid(
                'unsigned' if asymmetric else act_grid, bits
            )
            self.input_quantizer = TensorQuantizer(
                grid, shape, asymmetric=asymmetric
            )

    def _channel_shape(self) -> tuple[int, ...]:
        """Return the shape of one number for each channel of the input."""
        raise UserError(
            f'act_per_channel=True of a {type(self).__name__}: only a '
            'convolution reads maps, which have channels; leave it out'
        )

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        weight = state_dict.get(f'{prefix}weight')
        if weight is not None and weight.shape != self.weight.shape:
            # These are not taken over, such as a head's of other classes: a
            # clip value of theirs says nothing of new ones.
            started = f'{prefix}weight_quantizer.started'
            state_dict[started] = torch.tensor(False)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def input_ratio(self) -> Tensor | None:
        """Return by what weights are multiplied before they are rounded.

        A sum of products over channels has one scale. Where channels of the
        input have steps of their own, it is that of the largest one, and the
        weights make up for the others (Xiao et al., "SmoothQuant").

        Returns:
            Tensor: Of each channel of the input, broadcastable to the
            weights; None where it is 1.
        """
        return None

    def normalized_weight(self) -> Tensor:
        """Return the weights, normalised if they are to be.

        The statistics are those of the whole layer, and no gradient flows
        through them (AQD, section 3.1).
        """
        weight = self.weight
        if not self.normalize:
            return weight
        return normalized(weight, *statistics(weight.detach()))

    def scaled_weight(self) -> Tensor:
        """Return the weights as the quantiser reads them.

        They are normalised, and times :meth:`input_ratio`.
        """
        weight, ratio = self.normalized_weight(), self.input_ratio()
        return weight if ratio is None else weight * ratio

    def quantized_weight(self) -> Tensor:
        """Return ``code * step`` of the weights, in their shape."""
        shared, wanted = self.shared, torch.is_grad_enabled()
        if shared is None or self.weight_quantizer.hook is not None:
            return self._quantized_weight()
        if wanted not in shared:
            shared[wanted] = self._quantized_weight()
        return shared[wanted]

    def _quantized_weight(self) -> Tensor:
        ratio, quantizer = self.input_ratio(), self.weight_quantizer
        if self.normalize and ratio is None and quantizer.hook is None:
            quantizer.need_start()
            return fake_quantize_normalized(
                self.weight, quantizer.clip, quantizer.grid
            )
        rounded = quantizer(self.scaled_weight())
        return rounded if ratio is None else rounded / ratio

    def weight_codes(self) -> Tensor:
        """Return the int32 codes of the weights, in their shape."""
        return self.weight_quantizer.codes(self.scaled_weight())


def share_weights(head: nn.Module) -> None:
    """Let layers round their weights once in each call of a head.

    A head's tower is called for each level of the pyramid.

    Args:
        head: A module whose forward calls some layers several times.
    """
    head.register_forward_pre_hook(_begin_to_share)
    head.register_forward_hook(_end_to_share, always_call=True)


def _begin_to_share(head: nn.Module, args: tuple) -> None:
    for layer in _weighted(head):
        layer.shared = {}


def _end_to_share(head: nn.Module, args: tuple, output: Any) -> None:
    for layer in _weighted(head):
        layer.shared = None


def _weighted(head: nn.Module) -> list[QuantizedLayer]:
    return [m for m in head.modules() if isinstance(m, QuantizedLayer)]


def _move_parameters(source: nn.Module, target: nn.Module) -> None:
    # Not copies: an optimiser or a tied layer that holds them keeps doing so.
    target.weight, target.bias = source.weight, source.bias
    target.train(source.training)


@MODELS.register_module()
class QuantConv2d(QuantizedLayer, nn.Conv2d):
    """A convolution whose weights and input are rounded to integer grids.

    As ``conv_cfg`` in any config::

        conv_cfg=dict(type='aqd_mmdet.QuantConv2d', weight_bits=2, act_bits=2)

    Args:
        weight_bits: 2 to 8; below 8 the codes are odd, without a zero.
        act_bits: 2 to 8.
        act_grid: ``unsigned`` for inputs behind a ReLU, ``signed`` for
            others, ``asymmetric`` for a zero point that calibration finds,
            ``image`` for a stem that reads pixels minus an integer mean
            (``act_bits`` then says nothing).
        normalize: Whether weights are normalised first; by default in layers
            without a bias, which mmcv builds where a norm follows.
        per_channel: Whether each output channel has its own clip value.
        act_per_channel: Whether each channel of the input has. What a step
            has more than the largest one, the weights that read the channel
            have less, before they are rounded.
        *args, **kwargs: As of ``torch.nn.Conv2d``.
    """

    @classmethod
    def from_float(cls, conv: nn.Conv2d, **quantization: Any) -> 'QuantConv2d':
        """Return a quantised layer that takes over a float one's parameters.

        Args:
            conv: The layer to replace.
            **quantization: The arguments that Conv2d does not have.

        Raises:
            UserError: If one side of a window is padded more than the other.
        """
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            padding_of(conv),
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            **quantization,
        )
        _move_parameters(conv, layer)
        return layer

    def _channel_shape(self) -> tuple[int, ...]:
        if self.groups not in (1, self.in_channels):
            raise UserError(
                f'act_per_channel=True of a convolution of {self.groups} '
                'groups: one has it, or as many as channels; leave it out'
            )
        return (1, self.in_channels, 1, 1)

    def input_ratio(self) -> Tensor | None:
        quantizer = self.input_quantizer
        # The sums of a depthwise convolution belong to one channel.
        if (
            not isinstance(quantizer, Quantizer)
            or quantizer.clip.numel() == 1
            or self.groups == self.in_channels
        ):
            return None
        step = step_size(
            quantizer.clip.detach(), quantizer.grid, quantizer.zero
        )
        return step / step.amax()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C, H, W), rounded, with the rounded weights."""
        rounded, weight = self.input_quantizer(x), self.quantized_weight()
        with self.input_quantizer.recomputed(rounded, x):
            return self._conv_forward(rounded, weight, self.bias)

    def output_shape(self, x: Sequence[int]) -> Sequence[int]:
        """Return the shape of the output for that of the input.

        Raises:
            UserError: If the padding is none of zeros, by a number of pixels.
        """
        if isinstance(self.padding, str) or self.padding_mode != 'zeros':
            raise UserError(
                f'padding={self.padding!r}, {self.padding_mode}: a program '
                'pads with zeros, by a number of pixels'
            )
        size = windows(
            x[2:], self.kernel_size, self.stride, self.padding, self.dilation
        )
        return (x[0], self.out_channels, *size)


@MODELS.register_module()
class QuantLinear(QuantizedLayer, nn.Linear):
    """A fully connected layer whose weights and input are rounded.

    Args:
        weight_bits, act_bits, act_grid, normalize, per_channel: As of
            QuantConv2d; there is no ``act_per_channel``.
        *args, **kwargs: As of ``torch.nn.Linear``.
    """

    @classmethod
    def from_float(
        cls, linear: nn.Linear, **quantization: Any
    ) -> 'QuantLinear':
        """Return a quantised layer that takes over a float one's parameters.

        Args:
            linear: The layer to replace.
            **quantization: The arguments that Linear does not have.
        """
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            **quantization,
        )
        _move_parameters(linear, layer)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` (..., C), rounded, by the rounded weights."""
        rounded, weight = self.input_quantizer(x), self.quantized_weight()
        with self.input_quantizer.recomputed(rounded, x):
            return F.linear(rounded, weight, self.bias)

    def output_shape(self, x: Sequence[int]) -> Sequence[int]:
        """Return the shape of the output for that of the input.

        Raises:
            UserError: If the input is no row of each region.
        """
        if len(x) != 2:
            raise UserError(
                f'it reads a tensor of {len(x)} dimensions; a program has '
                'linear layers of whole regions and maps alone'
            )
        return (x[0], self.out_features)


def _is_conv(module: nn.Module) -> bool:
    # Exact types only: a subclass may compute something else.
    return type(module) is nn.Conv2d


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear


def _build_conv(
    conv: nn.Conv2d, options: ConvOptions, bits: int
) -> QuantConv2d:
    return QuantConv2d.from_float(conv, **options.arguments(bits))


def _build_linear(
    linear: nn.Linear, options: ConvOptions, bits: int
) -> QuantLinear:
    return QuantLinear.from_float(linear, **options.arguments(bits))


CONV = Replacement('conv', ConvOptions, _is_conv, _build_conv)
LINEAR = Replacement('conv', ConvOptions, _is_linear, _build_linear)
