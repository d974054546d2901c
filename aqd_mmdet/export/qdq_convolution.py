"""Convolutions between DequantizeLinear and QuantizeLinear: docs/export.md."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..program import ops as ir
from ..program.fixed_point import Multipliers
from . import onnx_window_ops
from .onnx_graph import BYTES, Graph, Tensor
from .onnx_window_ops import one_zero, reads_bytes, window
from .qdq_ops import FLOAT, bytes_of, origin, requantize, table_of

# Largest magnitude of a sum's bound and of a bias, whose sum fits int32.
MAX_PART = 2**30
# Products of two bytes and weights up to this fit 16 bits, which some
# instructions add them in.
SAFE_WEIGHT = 64
# The scale of weights that are all zero: the bias alone counts.
NO_WEIGHTS_SCALE = 2.0**-16
# Largest scale of weights: biases are rounded to it, and half of it is a
# 64th of a code.
MAX_SCALE = 2.0**-5
# How far sums are kept off borders, in units of the bias, before another scale
# is tried.
ENOUGH_ROOM = 1.0
# Each leaves two thirds of an interval: in the end a millionth.
THIRDS = 34


@dataclass(frozen=True)
class QuantizedConvolution(ir.Op):
    """A convolution and the Requantize that is all that reads it.

    Attributes:
        convolution: The one.
        multipliers: Of the other.
    """

    convolution: ir.Convolution
    multipliers: Multipliers


@dataclass(frozen=True)
class Int8Weights:
    """What a convolution between DequantizeLinear and QuantizeLinear has.

    Attributes:
        codes: int8 (O, I / groups, kH, kW), -127 to 127.
        scale: float32 (O,), positive; of weights and bias.
        bias: int32 (O,).
        factor: What the program's weights were multiplied by, float64 (O,).
    """

    codes: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    factor: np.ndarray

    @property
    def fits(self) -> bool:
        """Whether sums of bytes fit int32, and biases are fine enough."""
        sums = np.abs(self.codes).sum((1, 2, 3), np.int64) * (BYTES - 1)
        return bool(sums.max() <= MAX_PART and self.scale.max() <= MAX_SCALE)


def int8_weights(
    codes: np.ndarray, ratio: np.ndarray, addend: np.ndarray
) -> Int8Weights:
    """Return weights whose scales are the ratios of a Requantize.

    Narrow weights are multiplied by an integer, so that the bias, which has
    their scale, is finer. A bias beyond MAX_PART makes the scale larger and
    the weights smaller, down to nothing beside it. Weights of a channel with
    a negative ratio change their sign.

    Args:
        codes: int8 (O, I / groups, kH, kW).
        ratio: What sums are multiplied by, float64 (O,).
        addend: What is added then, float64 (O,).
    """
    scale = np.abs(ratio)
    largest = np.abs(codes).max((1, 2, 3)).astype(int)
    dead = (scale == 0) | (largest == 0)
    scale = np.where(dead, NO_WEIGHTS_SCALE, scale)
    sign = np.where(dead, 0, np.sign(ratio))
    bias = addend / scale
    factor = np.maximum(SAFE_WEIGHT // np.maximum(largest, 1), 1)
    factor = np.minimum(factor, MAX_PART / np.maximum(np.abs(bias), 1))
    scaled = codes * (sign * factor)[:, None, None, None]
    return Int8Weights(
        np.rint(scaled).astype(np.int8),
        (scale / factor).astype(np.float32),
        np.rint(bias * factor).astype(np.int32),
        sign * factor,
    )


def fitted(
    parts: Int8Weights,
    table: tuple[np.ndarray, np.ndarray, np.ndarray],
    grid: ir.Grid,
    bound: np.ndarray,
) -> Int8Weights:
    """Return biases and scales with which all sums become the right codes.

    Sums are whole numbers: from each to the next, there is place for the
    border between two codes. A bias in the middle of what all borders leave
    is not touched by the rounding of floats. Where no whole number is left,
    another scale moves the borders. Many codes leave nothing, nor do 16 often
    with weights of 4 bits; such channels keep the bias next to the real one.

    Args:
        parts: Of a convolution.
        table: The Requantize's m, b and ``2^s``, Python's integers (O,).
        grid: Its codes.
        bound: Largest magnitude of the sums, (O,).
    """
    codes = np.arange(grid.lo + 1, grid.hi + 1).astype(object)
    values = (codes - origin(grid) - 0.5).astype(float)
    bias, scale = parts.bias.copy(), parts.scale.copy()
    for channel, (m, b, step) in enumerate(zip(*table, strict=True)):
        factor = abs(parts.factor[channel])
        if factor < 1 or factor % 1:
            continue
        # The first sum of each code; weights have the sign of m.
        first = -((b - codes * step) // abs(m))
        borders = _Borders(values, first, int(bound[channel]), factor)
        distance = 1 / float(scale[channel])
        if not borders.are_met:
            low, high = borders.limits(distance)
            ends = np.floor(low) + 1, np.ceil(high) - 1
            bias[channel] = np.clip(bias[channel], *ends)
            continue
        best = borders.best_choice(distance)
        if best.room > 0:
            bias[channel], scale[channel] = best.bias, best.scale
    return replace(parts, bias=bias, scale=scale)


@dataclass(frozen=True)
class _Choice:
    """A bias and a scale, and how far the sums nearest to borders are off.

    Attributes:
        bias, scale: As of :class:`Int8Weights`.
        room: In units of the bias, less what floats blur; without any, some
            sums may get a wrong code.
    """

    bias: float
    scale: np.float32
    room: float


class _Borders:
    """Borders between codes, and the sums that lie around them.

    Args:
        values: Borders, in codes, float64 (N,).
        first: The sum behind each, Python's integers (N,).
        bound: Largest magnitude of sums.
        factor: From one sum to the next, in units of the bias.
    """

    def __init__(
        self, values: np.ndarray, first: np.ndarray, bound: int, factor: float
    ) -> None:
        self.values, self.factor = values, factor
        # There may be sums on one side of a border alone.
        self.has_behind = (first <= bound).astype(bool)
        self.has_before = (first > -bound).astype(bool)
        ends = -bound, bound + 1
        self.first = (first.clip(*ends) * factor).astype(float)

    @property
    def are_met(self) -> bool:
        """Whether there are two sums with a border between them."""
        return bool((self.has_behind & self.has_before).any())

    def limits(self, distance: float) -> tuple[float, float]:
        """Return what the bias lies between if codes have such a distance."""
        least = self.values * distance - self.first
        low = least[self.has_behind].max(initial=-np.inf)
        return low, least[self.has_before].min(initial=np.inf) + self.factor

    def choice(self, distance: float, bias: float | None = None) -> _Choice:
        """Return a bias, by default the best, for nearly such a distance."""
        scale = np.float32(1 / distance)
        distance = 1 / float(scale)
        if bias is None:
            bias = np.rint(self._middle(distance))
        # Floats of 24 bits hold what is near a border no better than this.
        blur = 2.0**-23 * distance * np.abs(self.values).max()
        return _Choice(bias, scale, self._room(bias, distance) - blur)

    def best_choice(self, distance: float) -> _Choice:
        """Return the bias and the scale that keep sums farthest off borders.

        Args:
            distance: Of codes, which the ratio has. It leaves something to a
                bias, but there may be no whole number in it.
        """
        real = self.choice(distance)
        if real.room >= ENOUGH_ROOM or len(self.values) < 2:
            return real
        middle = self._middle(self._best(distance, self._width))
        # What is left to a whole number is concave in the distance as well.
        wholes = [
            self.choice(self._best(distance, partial(self._room, bias)), bias)
            for bias in (np.floor(middle), np.ceil(middle))
        ]
        return max(real, *wholes, key=lambda choice: choice.room)

    def _middle(self, distance: float) -> float:
        return sum(self.limits(distance)) / 2

    def _width(self, distance: float) -> float:
        low, high = self.limits(distance)
        return high - low

    def _room(self, bias: float, distance: float) -> float:
        low, high = self.limits(distance)
        return min(bias - low, high - bias)

    def _best(self, real: float, room: Callable[[float], float]) -> float:
        """Return the distance near the real one that leaves the most room.

        Room is concave, so that thirds of an interval find it.
        """
        change = min(self.factor / max(np.ptp(self.values), 1), real / 2)
        low, high = real - change, real + change
        for _ in range(THIRDS):
            third = (high - low) / 3
            left, right = low + third, high - third
            if room(left) > room(right):
                high = right
            else:
                low = left
        return (low + high) / 2


def quantized_convolution(
    graph: Graph, op: QuantizedConvolution, inputs: Sequence[Tensor]
) -> Tensor:
    """DequantizeLinear, Conv, QuantizeLinear, of bytes.

    Other codes, and weights that do not fit, are convolved as in the integer
    format.
    """
    conv = op.convolution
    (x,) = inputs
    weights = graph.weights[conv.weights]
    m, b, s = table_of(op.multipliers, op.channels)
    step = 2**s
    b = b - onnx_window_ops.excess(graph, conv, x) * m
    parts = int8_weights(
        weights.codes,
        (m / step).astype(float),
        ((b - step // 2) / step - origin(op.grid)).astype(float),
    )
    if not (reads_bytes(graph, conv, x) and parts.fits):
        sums = onnx_window_ops.convolution(graph, conv, [x])
        back = ir.Requantize(
            op.output, (conv.output,), op.channels, op.grid, op.multipliers
        )
        return requantize(graph, back, [sums])
    bound = weights.magnitudes * (BYTES - 1)
    parts = fitted(parts, (m, b, step), op.grid, bound)
    name = float_conv(graph, conv, x, parts)
    return bytes_of(graph, name, op.grid, op.channels)


def float_conv(
    graph: Graph, op: ir.Convolution, x: Tensor, parts: Int8Weights
) -> str:
    """Add a Conv and the DequantizeLinear of what it reads."""
    source = one_zero(graph, op, x)
    values = graph.node(
        'DequantizeLinear', source.name, np.array(1, FLOAT),
        np.array(source.zero, np.uint8),
    )  # fmt: skip
    scale = graph.constant(parts.scale)
    weights = graph.node(
        'DequantizeLinear',
        graph.constant(parts.codes, f'{op.weights}/weights'),
        scale,
        np.zeros(op.channels, np.int8),
        axis=0,
    )
    bias = graph.node('DequantizeLinear', parts.bias, scale, axis=0)
    return graph.node(
        'Conv', values, weights, bias, group=op.groups,
        **window(op, source.with_padding),
    )  # fmt: skip
