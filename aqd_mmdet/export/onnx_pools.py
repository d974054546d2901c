"""Maxima before what rounds, where their order does not matter."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..program import ops as ir

Readers = Mapping[str, Sequence[ir.Op | None]]


def with_pools_first(program: ir.Program) -> ir.Program:
    """Return a program that computes the same of fewer pixels.

    What a Requantize makes rises with what it is given, if its multipliers
    are not negative. So sums of a convolution that are rounded and then pooled
    may be pooled first; the engine does so, too. Stems have such pools, and
    two readers: the next convolution and the residual sum. Of one reader,
    what it rounds to bytes is pooled fast already.

    Args:
        program: The program.
    """
    readers = program.readers()
    ops: list[ir.Op] = []
    rounded_early: set[str] = set()
    rounded_late: dict[str, ir.Op] = {}
    for op in program.ops:
        if op.output in rounded_early:
            continue
        # A Requantize takes the place and name of the pool behind it.
        op = rounded_late.get(op.output, op)
        ops.append(op)
        pairs = pooled_roundings(op, readers)
        if not pairs:
            continue
        pool = pairs[0][1]
        name = f'{op.output}/{pool.output}'
        while name in readers:
            name += '.2'
        ops.append(
            replace(pool, output=name, inputs=(op.output,), grid=op.grid)
        )
        for rounding, pool in pairs:
            rounded_early.add(rounding.output)
            rounded_late[pool.output] = replace(
                rounding, output=pool.output, inputs=(name,)
            )
    return replace(program, ops=tuple(ops))


def pooled_roundings(
    op: ir.Op, readers: Readers
) -> list[tuple[ir.Requantize, ir.MaxPool]]:
    """Return all that reads a convolution's sums, if one pool can precede it.

    Args:
        op: An operator.
        readers: Of each tensor.

    Returns:
        Pairs of a Requantize and the MaxPool behind it; no pairs if there is
        one alone, windows differ, something else reads sums or codes, or codes
        fall as sums rise.
    """
    pairs: list[tuple[ir.Requantize, ir.MaxPool]] = []
    for rounding in readers[op.output]:
        if not isinstance(rounding, ir.Requantize):
            return []
        pool, *others = readers[rounding.output] or [None]
        if others or not isinstance(pool, ir.MaxPool):
            return []
        if (rounding.multipliers.m < 0).any():
            return []
        pairs.append((rounding, pool))
    windows = {
        (pool.kernel, pool.stride, pool.padding, pool.dilation)
        for _, pool in pairs
    }
    if not isinstance(op, ir.Convolution) or len(pairs) < 2:
        return []
    # Windows with holes may see the border alone, which is a code.
    has_holes = pairs[0][1].dilation != (1, 1)
    return [] if len(windows) > 1 or has_holes else pairs
