"""What stands for a tensor of the graph while a program is made.

Between two quantisers a network is affine in each channel, cut off by
activations: an accumulator's real value, its batch norm, a ReLU. Such values
are kept as formulas over tensors of the program, and where a quantiser reads
one, the formula becomes one requantisation. Operators that only move values
(pooling, upsampling, slices) wait for the quantiser too: rounding commutes
with them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Graph, Node

from ..program import ops as ir

# Heights and widths of images, in strides, at which expressions of sizes are
# evaluated to see whether they are equal. They are odd, so that rounding up
# and rounding down give different sizes beyond the coarsest stride.
SIDES = ((45, 11), (13, 63), (17, 19))
MOST_HALVINGS = 8  # of an image, in one network


@dataclass(frozen=True)
class TracedSize:
    """Height and width in the captured graph.

    Attributes:
        symbols: As expressions of the image's.
        numbers: Their values for some sizes of the image.
    """

    symbols: str
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, stride: int) -> 'TracedSize':
        """Return the size of a node's tensor, 1 x 1 without such axes.

        Args:
            node: Of a graph whose first input is the image.
            stride: What divides the sides of images.
        """
        shape = node.meta['val'].shape
        height, width = shape[2:] if len(shape) > 2 else (1, 1)
        image, *_ = node.graph.find_nodes(op='placeholder')
        symbols = [
            symbol
            for n in image.meta['val'].shape
            if isinstance(n, torch.SymInt)
            for symbol in n.node.expr.free_symbols
        ]
        numbers = []
        for sides in SIDES:
            pixels = (side * stride for side in sides)
            values = dict(zip(symbols, pixels, strict=False))
            numbers += [
                int(n.node.expr.subs(values))
                if isinstance(n, torch.SymInt)
                else n
                for n in (height, width)
            ]
        return cls(f'{height} x {width}', tuple(numbers))


def stride_of(graph: Graph, stride: int) -> int:
    """Return a multiple of a stride with which a network runs.

    Maps that are added or concatenated have equal sizes. Where they have not
    for all multiples of the stride, PyTorch refuses such images, as a
    detector's whose test pipeline pads all images to one size.

    Args:
        graph: Of the network.
        stride: What divides the sides of images.

    Returns:
        int: The stride times the least power of two, or times 1 if there is
        none.
    """
    joined = [
        maps
        for node in graph.nodes
        if node.op != 'output'
        and len(maps := [x for x in node.all_input_nodes if _is_map(x)]) > 1
    ]
    for multiple in (stride << n for n in range(MOST_HALVINGS + 1)):
        sizes = (
            {TracedSize.of(x, multiple).numbers for x in maps}
            for maps in joined
        )
        # A factor for each channel is 1 x 1.
        if all(len(each - {(1,) * len(SIDES) * 2}) <= 1 for each in sizes):
            return multiple
    return stride


def _is_map(node: Node) -> bool:
    value = node.meta.get('val')
    return node.op != 'get_attr' and getattr(value, 'ndim', 0) == 4


@dataclass(frozen=True, eq=False)
class Affine:
    """``clamp(source * scale + offset, low, high)``, in real numbers.

    Attributes:
        source: Tensor of the program.
        size: Its height and width.
        scale: float64 (C,) or (1,).
        offset: float64 (C,) or (1,).
        low: What activations cut off below.
        high: What they cut off above.
    """

    source: str
    size: TracedSize
    scale: np.ndarray
    offset: np.ndarray
    low: float = -inf
    high: float = inf

    @property
    def clamped(self) -> bool:
        """Whether an activation has been applied."""
        return self.low > -inf or self.high < inf


@dataclass(frozen=True, eq=False)
class Table:
    """A function of one code.

    Attributes:
        source: Tensor of the program.
        size: Its height and width.
        values: float64, the real value of each of the source's codes.
    """

    source: str
    size: TracedSize
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Movement:
    """A value whose elements are those of others, elsewhere.

    Attributes:
        values: What is moved.
        emit: Adds the operator to the program, given the tensors of codes;
            returns its output.
        per_channel: From what belongs to each channel of the result, what
            belongs to those of each value.
    """

    values: tuple['Value', ...]
    emit: Callable[[tuple[str, ...]], str]
    per_channel: Callable[[np.ndarray], list[np.ndarray]]


Value = Affine | Table | Movement


def clamped(value: Value, low: float, high: float) -> Value:
    """Return a value cut off at both ends."""
    if isinstance(value, Movement):
        inner = tuple(clamped(v, low, high) for v in value.values)
        return replace(value, values=inner)
    if isinstance(value, Table):
        return replace(value, values=np.clip(value.values, low, high))
    new_low, new_high = (
        min(max(x, low), high) for x in (value.low, value.high)
    )
    return replace(value, low=new_low, high=new_high)


def pair(x: Any) -> ir.Size:
    """Return two numbers as they stand in a program."""
    first, second = x
    return int(first), int(second)


def real(x: Any) -> np.ndarray:
    """Return a step, parameter or number as float64 of one dimension."""
    if isinstance(x, Tensor):
        x = x.detach().double().cpu().numpy()
    return np.asarray(x, np.float64).reshape(-1)
