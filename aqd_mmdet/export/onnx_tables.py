"""Tables of a program that a graph has no need to look up twice."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..program import ops as ir

# Most numbers of a table that is made here. It lies in the first or second
# cache of a processor, and one for each channel would not.
MAX_TABLE = 2**16


def with_fewer_lookups(program: ir.Program) -> ir.Program:
    """Return a program that computes the same with fewer operators.

    What a Requantize makes of a Lookup is a function of one code as well, so
    that a table has it. A Lookup that nothing else reads is left out. The
    engine computes both at once anyway, and does so faster with the program
    as it is.

    Args:
        program: The program.
    """
    sources = program.by_output
    ops: list[ir.Op] = []
    for op in program.ops:
        source = sources.get(op.inputs[0])
        if isinstance(op, ir.Requantize) and isinstance(source, ir.Lookup):
            ops.append(looked_up(source, op) or op)
        else:
            ops.append(op)
    program = replace(program, ops=tuple(ops))
    readers = program.readers()
    return replace(
        program,
        ops=tuple(
            op
            for op in ops
            if readers[op.output] or not isinstance(op, ir.Lookup)
        ),
    )


def looked_up(lookup: ir.Lookup, op: ir.Requantize) -> ir.Lookup | None:
    """Return the Lookup of what a Requantize makes of another one.

    Args:
        lookup: What is requantised.
        op: The Requantize.

    Returns:
        None if its table would be too large.
    """
    kinds = list(kinds_of(lookup, op))
    rows = {kind: row for row, kind in enumerate(dict.fromkeys(kinds))}
    if len(rows) * len(row_of(lookup, 0)) > MAX_TABLE:
        return None
    made = [
        rounded(row_of(lookup, row), numbers, op.grid)
        for row, *numbers in rows
    ]
    return ir.Lookup(
        op.output, lookup.inputs, op.channels, op.grid,
        np.concatenate(made).astype(np.int32), lookup.first,
        tuple(rows[kind] for kind in kinds),
    )  # fmt: skip


def kinds_of(
    lookup: ir.Lookup, op: ir.Requantize
) -> Iterator[tuple[int, int, int, int]]:
    """Yield each channel's row, and its multiplier, bias and shift."""
    parts = (op.multipliers.m, op.multipliers.b, op.multipliers.s)
    columns = (
        np.broadcast_to(each, op.channels).tolist()
        for each in (lookup.rows, *parts)
    )
    return zip(*columns, strict=True)


def row_of(lookup: ir.Lookup, row: int) -> np.ndarray:
    """Return a row of a table, int64 (codes,)."""
    return lookup.table.reshape(max(lookup.rows) + 1, -1)[row].astype(np.int64)


def rounded(
    values: np.ndarray, numbers: Sequence[int], grid: ir.Grid
) -> np.ndarray:
    """Return what a Requantize makes of values, int64.

    Args:
        values: Of one channel, int64.
        numbers: Its multiplier, bias and shift.
        grid: Of the codes.
    """
    m, b, s = numbers
    return ((values * m + b) >> s).clip(*grid.ends)
