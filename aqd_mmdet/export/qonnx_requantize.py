"""A Requantize in the terms of QONNX: docs/export.md.

Three ways are exact. They are tried in this order: floats and a Quant, the
thresholds of a MultiThreshold, and doubles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..program import ops as ir
from ..program.fixed_point import Multipliers
from . import qdq_ops
from .onnx_graph import BYTES, Graph, Tensor, per_channel
from .qdq_ops import FLOAT, FLOAT_END, table_of
from .qonnx_graph import carried, limited, tensor, width_of

# Of channels, by the names of convolutions: what their weights, and with them
# the sums, are multiplied by.
Signs = Mapping[str, np.ndarray]
# Largest code for which borders are looked at: with a shift of 47 bits they
# fit 62.
MAX_CODE = 2**12
# What multiplies channels that have one code alone. It moves 2^24 by less
# than half a code, and FINN can divide by it.
FLAT_RATIO = 2.0**-32
# Beyond what is added to the product of 24 bits and a multiplier of 31.
MAX_ADDEND = 2.0**60


@dataclass(frozen=True)
class Stairs:
    """What a Requantize makes of the whole numbers that it can be given.

    Numbers are multiplied by a sign, so that codes rise with them.

    Attributes:
        grid: The codes.
        sign: Of each channel, int64 (C, 1).
        low: Smallest number, int64 (C, 1).
        high: Largest number, int64 (C, 1).
        m: Multipliers, from 0, int64 (C, 1).
        b: Biases, int64 (C, 1).
        s: Shifts, int64 (C, 1).
    """

    grid: ir.Grid
    sign: np.ndarray
    low: np.ndarray
    high: np.ndarray
    m: np.ndarray
    b: np.ndarray
    s: np.ndarray

    @classmethod
    def of(cls, op: ir.Requantize, x: Tensor) -> 'Stairs':
        """Return those of an operator.

        Args:
            op: The operator.
            x: What it reads, floats.
        """
        m, b, s = table_of(op.multipliers, op.channels)
        m, b, s, low, high = (
            part.astype(np.int64)[:, None] for part in (m, b, s, x.low, x.high)
        )
        sign = np.where(m < 0, -1, 1)
        ends = low * sign, high * sign
        return cls(
            op.grid, sign, np.minimum(*ends), np.maximum(*ends), m * sign, b, s
        )

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the contract's codes of numbers, int64 (C, K)."""
        return ((numbers * self.m + self.b) >> self.s).clip(*self.grid.ends)

    def first(self) -> np.ndarray:
        """Return the first number of each code but the lowest, (C, K).

        It is ``low`` if all numbers have the code or a larger one, and
        ``high + 1`` if none has.
        """
        codes = np.arange(self.grid.lo + 1, self.grid.hi + 1)
        needed = (codes << self.s) - self.b
        first = -(-needed // np.maximum(self.m, 1))
        never = np.where(needed > 0, self.high + 1, self.low)
        first = np.where(self.m == 0, never, first)
        return first.clip(self.low, self.high + 1)


def affine(stairs: Stairs) -> tuple[np.ndarray, np.ndarray] | None:
    """Return factors and addends with which floats become the right codes.

    From each number to the next one there is place for the border between
    two codes, and the addend puts all borders of a channel where most is
    left. The rounding of floats may need more than that. What is computed
    rises with the numbers. So it is right for all of them if it is right on
    both sides of each border.

    Args:
        stairs: What must be computed.

    Returns:
        tuple: Both float32 (C, 1); None if some code would be wrong.
    """
    low, high, first = stairs.low, stairs.high, stairs.first()
    flat = stairs.codes(low) == stairs.codes(high)
    ratio = np.where(flat, FLAT_RATIO, np.ldexp(stairs.m * 1.0, -stairs.s))
    ratio = ratio.astype(FLOAT)
    half = np.arange(stairs.grid.lo, stairs.grid.hi) + 0.5
    is_met = (low < first) & (first <= high)
    above = half - first * ratio.astype(float)
    below = above + ratio
    least = above.max(1, keepdims=True, where=is_met, initial=-MAX_ADDEND)
    most = below.min(1, keepdims=True, where=is_met, initial=MAX_ADDEND)
    middle = (least + most) / 2
    addend = np.where(flat, stairs.codes(low), middle).astype(FLOAT)
    numbers = np.concatenate([first - 1, first], 1).clip(low, high)
    found = np.rint(
        (numbers.astype(FLOAT) * ratio + addend).clip(*stairs.grid.ends)
    )
    if not np.array_equal(found, stairs.codes(numbers)):
        return None
    return ratio, addend


def requantize(
    graph: Graph, op: ir.Requantize, inputs: Sequence[Tensor], signs: Signs
) -> Tensor:
    """The contract's ``(a * m + b) >> s``, of floats that have signs."""
    (x,) = inputs
    if x.dtype != FLOAT:
        return by_doubles(graph, op, inputs)
    op = signed(op, signs)
    if op.grid.magnitude > MAX_CODE:
        return by_doubles(graph, op, inputs)
    stairs = Stairs.of(op, x)
    name = floats(graph, x.name, stairs)
    if name is None and len(op.grid) <= BYTES:
        name = thresholds(graph, x.name, stairs)
    if name is None:
        return by_doubles(graph, op, inputs)
    ends = (stairs.codes(end)[:, 0] for end in (stairs.low, stairs.high))
    return tensor(name, *(end.astype(object) for end in ends))


def by_doubles(
    graph: Graph, op: ir.Requantize, inputs: Sequence[Tensor]
) -> Tensor:
    """As with QuantizeLinear; codes beyond what floats hold stay int32."""
    y = qdq_ops.requantize(graph, op, inputs)
    return y if op.grid.magnitude >= FLOAT_END else carried(graph, y)


def signed(op: ir.Requantize, signs: Signs) -> ir.Requantize:
    """Return an operator for what has been multiplied by signs."""
    sign = signs.get(op.inputs[0])
    if sign is None:
        return op
    m, b, s = op.multipliers.m, op.multipliers.b, op.multipliers.s
    # The lowest int32 has no negative.
    m = m.astype(np.int64) * sign
    b, s = (np.broadcast_to(each, m.shape) for each in (b, s))
    return replace(op, multipliers=Multipliers(m, b, s))


def floats(graph: Graph, x: str, stairs: Stairs) -> str | None:
    """Add a Mul, an Add and a Quant, if their codes are the right ones."""
    parts = affine(stairs)
    if parts is None:
        return None
    ratio, addend = parts
    ratio = ratio * stairs.sign
    name = graph.node('Mul', x, per_channel(ratio[:, 0], FLOAT))
    name = graph.node('Add', name, per_channel(addend[:, 0], FLOAT))
    return limited(graph, name, stairs.grid)


def thresholds(graph: Graph, x: str, stairs: Stairs) -> str:
    """Add a MultiThreshold: it counts how many borders a number has passed."""
    if (stairs.sign < 0).any():
        x = graph.node('Mul', x, per_channel(stairs.sign[:, 0], FLOAT))
    return graph.node(
        'MultiThreshold', x, stairs.first().astype(FLOAT),
        out_dtype=width_of(stairs.grid).name, out_bias=float(stairs.grid.lo),
        data_layout='NCHW',
    )  # fmt: skip
