"""Operators that read windows as nodes of ONNX."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..program import ops as ir
from .onnx_graph import (
    BYTES,
    INT32_ENDS,
    LAST,
    Graph,
    Tensor,
    integers,
    per_channel,
)

# Weights are held as unsigned bytes with this zero point. Runtimes multiply
# unsigned with signed bytes by instructions that cut sums of two products to
# 16 bits on processors without VNNI; products of unsigned bytes are exact.
MIDDLE = 128
ZERO_BYTE = np.array(0, np.uint8)
MIDDLE_BYTE = np.array(MIDDLE, np.uint8)


def window(op: ir.Window, with_padding: bool = True) -> dict:
    """Return the attributes of an operator's window."""
    padding = op.padding if with_padding else (0, 0)
    return dict(
        kernel_shape=list(op.kernel),
        strides=list(op.stride),
        pads=[*padding, *padding],
        dilations=list(op.dilation),
    )


def convolution(
    graph: Graph, op: ir.Convolution, inputs: Sequence[Tensor]
) -> Tensor:
    """One ConvInteger if the input is bytes, and its zero points are, too.

    Sums of bytes must fit int32 as well, since bytes of channels with other
    offsets may be larger than their codes.
    """
    (x,) = inputs
    magnitudes = graph.weights[op.weights].magnitudes
    grid = x.low + x.offset, x.high + x.offset
    largest = max(abs(end) for ends in grid for end in ends)
    # As the contract, section 4, bounds them: they fit int32.
    bound = magnitudes * (largest + max(map(abs, op.zero)))
    if not reads_bytes(graph, op, x):
        sums = convolve_digits(graph, op, x, held_zero(op, x))
        return Tensor(sums, 'int32', integers(0, op.channels), -bound, bound)
    sums = convolve_bytes(graph, op, x)
    beside = integers(excess(graph, op, x).tolist(), op.channels)
    most = magnitudes * (BYTES - 1)
    low, high = (
        np.maximum(beside - bound, -most),
        np.minimum(beside + bound, most),
    )
    return Tensor(sums, 'int32', -beside, low, high)


def held_zero(op: ir.Convolution, x: Tensor) -> np.ndarray:
    """Return what is held where the real value is 0, integers (C,)."""
    return integers(op.zero, len(x.offset)) - x.offset


def reads_bytes(graph: Graph, op: ir.Convolution, x: Tensor) -> bool:
    """Say whether codes, zero points and sums are those of bytes."""
    zero = held_zero(op, x)
    return bool(
        x.dtype == 'uint8'
        and zero.min() >= 0
        and zero.max() < BYTES
        and graph.weights[op.weights].magnitudes.max() * (BYTES - 1)
        <= INT32_ENDS[1]
    )


def conv_integer(
    graph: Graph, op: ir.Convolution, x: str, zero: int, with_padding: bool
) -> str:
    """Add a ConvInteger of bytes with one zero point, which it pads with."""
    levels = graph.weights[op.weights].codes.astype(np.int16) + MIDDLE
    weights = graph.constant(levels.astype(np.uint8), f'{op.weights}/weights')
    return graph.node(
        'ConvInteger', x, weights, np.array(zero, np.uint8), MIDDLE_BYTE,
        group=op.groups, **window(op, with_padding),
    )  # fmt: skip


@dataclass(frozen=True)
class OneZero:
    """Bytes for a convolution that has one zero point for all channels.

    Attributes:
        name: The bytes, with a border if the channels differ in it.
        zero: The zero point.
        with_padding: Whether the border is still missing.
    """

    name: str
    zero: int
    with_padding: bool


def one_zero(graph: Graph, op: ir.Convolution, x: Tensor) -> OneZero:
    """Return bytes that a convolution with one zero point can read.

    With several zero points, the border is written before, and all channels
    take that of the first. Sums have :func:`excess` too much then.
    """
    zero = held_zero(op, x)
    first = int(zero[0])
    if (zero == first).all():
        return OneZero(x.name, first, True)
    padded = (
        with_border(graph, op, x.name, zero) if any(op.padding) else x.name
    )
    return OneZero(padded, first, False)


def excess(graph: Graph, op: ir.Convolution, x: Tensor) -> np.ndarray:
    """Return what sums of one zero point have too much, int64 (O,)."""
    zero = held_zero(op, x)
    codes = graph.weights[op.weights].codes.sum((2, 3), np.int64)
    each = (zero - zero[0]).astype(np.int64).reshape(op.groups, -1)
    group = np.arange(op.channels) // (op.channels // op.groups)
    return (codes * each[group]).sum(1)


def convolve_bytes(graph: Graph, op: ir.Convolution, x: Tensor) -> str:
    """Return the sums of an input of bytes, with their :func:`excess`."""
    source = one_zero(graph, op, x)
    return conv_integer(
        graph, op, source.name, source.zero, source.with_padding
    )


def with_border(
    graph: Graph, op: ir.Convolution, x: str, zero: np.ndarray
) -> str:
    """Return bytes with a border of each channel's zero point."""
    pads = edges(op.padding)
    shape = graph.node('Concat', np.array([1, 1]), graph.size(x, 2, 4), axis=0)
    ones = graph.node('Expand', np.ones((1, 1, 1, 1), np.uint8), shape)
    inside = graph.cast(graph.node('Pad', ones, pads, ZERO_BYTE), 'bool')
    padded = graph.node('Pad', x, pads, ZERO_BYTE)
    return graph.node('Where', inside, padded, per_channel(zero, 'uint8'))


def edges(padding: ir.Size) -> np.ndarray:
    """Return the pads of the four axes, their beginnings before their ends."""
    return np.array([0, 0, *padding, 0, 0, *padding])


def convolve_digits(
    graph: Graph, op: ir.Convolution, x: Tensor, zero: np.ndarray
) -> str:
    """Return the sums of an input that is not one of bytes.

    The differences from the zero points are digits of base 256, from -128 to
    127. Each is convolved, and the sums are added in int64. Those of a digit
    fit int32, as the contract's bound does. With several digits, some
    difference has a magnitude of 128 or more, which is the largest digit's.
    """
    low, high = (x.low - zero).min(), (x.high - zero).max()
    values = graph.converted(x, 'int32')
    if zero.any():
        values = graph.node('Sub', values, per_channel(zero, 'int32'))
    total = ''
    for power, digit in enumerate(digits(graph, values, low, high)):
        sums = conv_integer(graph, op, digit, MIDDLE, True)
        sums = graph.cast(sums, 'int64')
        if not power:
            total = sums
            continue
        factor = np.array(BYTES**power, np.int64)
        total = graph.node('Add', total, graph.node('Mul', sums, factor))
    return graph.cast(total, 'int32')


def digits(graph: Graph, x: str, low: int, high: int) -> Iterator[str]:
    """Yield the digits of int32 values, the lowest first, as bytes from 128.

    Args:
        graph: The graph.
        x: The values.
        low: The smallest of them.
        high: The largest.
    """
    while low < -MIDDLE or high >= MIDDLE:
        # A multiple of the base makes all of them positive, so that quotients
        # are floored.
        lift = -min((low + MIDDLE) // BYTES, 0)
        lifted = graph.node('Add', x, int32(lift * BYTES + MIDDLE))
        yield graph.cast(graph.node('Mod', lifted, int32(BYTES)), 'uint8')
        x = graph.node('Div', lifted, int32(BYTES))
        if lift:
            x = graph.node('Sub', x, int32(lift))
        low, high = (low + MIDDLE) // BYTES, (high + MIDDLE) // BYTES
    yield graph.cast(graph.node('Add', x, int32(MIDDLE)), 'uint8')


def int32(value: int) -> np.ndarray:
    return np.array(value, np.int32)


def max_pool(graph: Graph, op: ir.MaxPool, inputs: Sequence[Tensor]) -> Tensor:
    """MaxPool of bytes; of other codes the maximum of shifted maps."""
    (x,) = inputs
    # A window without holes always sees more than the border.
    if x.dtype == 'uint8' and op.dilation == (1, 1):
        name = x.name
        if any(op.padding):
            # What MaxPool pads integers with is not said.
            name = graph.node('Pad', name, edges(op.padding), ZERO_BYTE)
        name = graph.node('MaxPool', name, **window(op, False))
        return Tensor(name, x.dtype, x.offset, x.low, x.high)
    y = graph.codes(x)
    name = y.name
    if any(op.padding):
        border = np.array(op.grid.lo, np.int32)
        name = graph.node('Pad', name, edges(op.padding), border)
    for axis, reach in enumerate(op.reach):
        taps = [
            graph.node(
                'Slice', name, np.array([first]),
                # Behind the first tap of the last window.
                np.array([first + 1 - reach or LAST]), np.array([2 + axis]),
                np.array([op.stride[axis]]),
            )
            for first in range(0, reach, op.dilation[axis])
        ]  # fmt: skip
        name = graph.node('Max', *taps) if len(taps) > 1 else taps[0]
    # A window without holes always sees more than the border.
    is_seen = any(op.padding) and op.dilation != (1, 1)
    low = y.low.clip(None, op.grid.lo) if is_seen else y.low
    return graph.clamped(Tensor(name, 'int32', y.offset, low, y.high), op.grid)
