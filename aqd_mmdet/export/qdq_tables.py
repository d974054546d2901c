"""QuantizeLinear of what a table has: docs/export.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..program import ops as ir
from .onnx_graph import BYTES, Graph, Tensor
from .onnx_tables import kinds_of, rounded, row_of
from .qdq_ops import FLOAT, from_lowest, requantize

# How many floats are tried as a scale, on each side of the nearest one. A
# few are enough: one float more or less moves a code of 8 bits by 10^-5 of a
# step, and a table has some thousand numbers.
TRIED = 8


@dataclass(frozen=True)
class QuantizedLookup(ir.Requantize):
    """A Requantize to at most 256 codes of what a Lookup found.

    Attributes:
        lookup: The Lookup.
    """

    lookup: ir.Lookup


def quantized_lookup(
    graph: Graph, op: QuantizedLookup, inputs: Sequence[Tensor]
) -> Tensor:
    """QuantizeLinear with a scale of each channel, if it is exact.

    It takes a fifth of the time of doubles in ONNX Runtime. All numbers that
    it can be given are known, and tried here.
    """
    kinds = list(kinds_of(op.lookup, op))
    found = {kind: scale_of(op, *kind) for kind in set(kinds)}
    scales = [found[kind] for kind in kinds]
    if None in scales:
        return requantize(graph, op, inputs)
    zeros = [zero_of(op.grid, b, s) for _, _, b, s in kinds]
    values = graph.cast(graph.codes(inputs[0]).name, FLOAT)
    name = graph.node(
        'QuantizeLinear', values, np.array(scales, FLOAT),
        np.array(zeros, np.uint8), axis=1,
    )  # fmt: skip
    return from_lowest(graph, name, op.grid, op.channels)


def scale_of(
    op: QuantizedLookup, row: int, m: int, b: int, s: int
) -> np.float32 | None:
    """Return a scale of QuantizeLinear with which a channel is exact.

    Args:
        op: The operator.
        row: Of the channel's table.
        m, b, s: Of its Requantize.

    Returns:
        None if there is none.
    """
    zero = zero_of(op.grid, b, s)
    if m <= 0 or zero is None:
        return None
    table = row_of(op.lookup, row)
    wanted = rounded(table, (m, b, s), op.grid) - op.grid.lo
    values = table.astype(FLOAT)
    for scale in floats_near(2**s / m):
        found = np.rint(values / scale) + zero
        if np.array_equal(found.clip(0, len(op.grid) - 1), wanted):
            return scale
    return None


def zero_of(grid: ir.Grid, b: int, s: int) -> int | None:
    """Return the byte of the value 0, if a bias is a half and whole steps."""
    zero, rest = divmod(b - (1 << s >> 1), 1 << s)
    zero -= grid.lo
    return None if rest or not 0 <= zero < BYTES else zero


def floats_near(value: float) -> Iterator[np.float32]:
    """Yield float32 numbers, the nearest one first."""
    up = down = np.float32(value)
    yield up
    for _ in range(TRIED):
        up, down = (
            np.nextafter(each, np.float32(end))
            for each, end in ((up, np.inf), (down, 0))
        )
        yield up
        yield down
