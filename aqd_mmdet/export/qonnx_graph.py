"""How a graph of QONNX holds codes: docs/export.md.

A tensor is held as float32, and what is held are the codes themselves. Codes
that floats do not hold are int32, as in the integer format.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..program import ops as ir
from .onnx_graph import Graph, Tensor, integers, per_channel
from .onnx_model import Translation
from .qdq_ops import FLOAT, FLOAT_END


@dataclass(frozen=True)
class Width:
    """The integers of a Quant.

    Attributes:
        bits: How many bits they have.
        signed: Whether one of these is the sign.
        narrow: Whether the lowest integer is left out.
    """

    bits: int
    signed: bool
    narrow: bool

    @property
    def grid(self) -> ir.Grid:
        """The integers themselves."""
        if not self.signed:
            return ir.Grid(0, 2**self.bits - 1)
        half = 2 ** (self.bits - 1)
        return ir.Grid(self.narrow - half, half - 1)

    @property
    def name(self) -> str:
        """What QONNX calls them."""
        return f'{"" if self.signed else "U"}INT{self.bits}'


def width_of(grid: ir.Grid) -> Width:
    """Return the fewest bits, at least 2, that hold all codes of a grid.

    QONNX takes one signed bit for -1 and 1.
    """
    if grid.lo >= 0:
        return Width(max(grid.hi.bit_length(), 2), False, False)
    low = (-grid.lo - 1).bit_length()
    bits = max(low, max(grid.hi, 0).bit_length(), 1) + 1
    return Width(bits, True, -grid.lo < 2 ** (bits - 1))


def quant(graph: Graph, x: str, width: Width, name: str | None = None) -> str:
    """Add a Quant of whole numbers, whose step is 1 and zero point 0.

    Args:
        graph: The graph.
        x: What it reads.
        width: Of its integers.
        name: Of the node; by default that of the operator.
    """
    numbers = (np.array(each, FLOAT) for each in (1, 0, width.bits))
    return graph.put(
        'Quant', name or graph.unique(f'{graph.scope}/Quant'), x, *numbers,
        signed=int(width.signed), narrow=int(width.narrow),
        rounding_mode='ROUND',
    )  # fmt: skip


def limited(graph: Graph, x: str, grid: ir.Grid) -> str:
    """Return floats as the codes of a grid.

    FINN wants a Relu before integers without a sign.
    """
    width = width_of(grid)
    if grid != width.grid:
        x = graph.node('Clip', x, *(np.array(e, FLOAT) for e in grid.ends))
    if not width.signed:
        x = graph.node('Relu', x)
    return quant(graph, x, width)


def is_held(*ends: np.ndarray) -> bool:
    """Say whether floats hold all integers between some, and the next one."""
    return max(int(abs(end).max()) for end in ends) < FLOAT_END


def tensor(name: str, low: np.ndarray, high: np.ndarray) -> Tensor:
    """Return a tensor of floats whose codes lie between some, (C,)."""
    return Tensor(name, FLOAT, integers(0, len(low)), low, high)


def carried(graph: Graph, x: Tensor) -> Tensor:
    """Return integers as floats; as they are if floats do not hold them."""
    low, high = x.low + x.offset, x.high + x.offset
    if x.dtype == FLOAT or not is_held(x.low, x.high, low, high):
        return x
    name = graph.cast(x.name, FLOAT)
    if x.offset.any():
        name = graph.node('Add', name, per_channel(x.offset, FLOAT))
    width = width_of(ir.Grid(int(low.min()), int(high.max())))
    return tensor(limited(graph, name, width.grid), low, high)


def by_integers(translate: Translation) -> Translation:
    """Return a translation of the integer format whose result is floats."""

    def translated(
        graph: Graph, op: ir.Op, inputs: Sequence[Tensor]
    ) -> Tensor:
        return carried(graph, translate(graph, op, inputs))

    return translated
