"""Maxima before what rounds, where their order does not matter."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..program import ops as ir

Readers = Mapping[str, Sequence[ir.Op]]


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
    readers: dict[str, list[ir.Op]] = {op.output: [] for op in program.ops}
    readers['image'] = []
    for op in program.ops:
        for name in op.inputs:
            readers[name].append(op)
    outputs = set(program.output_names())
    ops: list[ir.Op] = []
    rounded_early: set[str] = set()
    rounded_late: dict[str, ir.Op] = {}
    for op in program.ops:
        if op.output in rounded_early:
            continue
        # A Requantize takes the place and name of the pool behind it.
        op = rounded_late.get(op.output, op)
        ops.append(op)
        pool = common_pool(op, readers, outputs)
        if pool is None:
            continue
        pooled = f'{op.output}/{pool.output}'
        while pooled in readers:
            pooled += '.2'
        ops.append(
            replace(pool, output=pooled, inputs=(op.output,), grid=op.grid)
        )
        for rounding in readers[op.output]:
            (last,) = readers[rounding.output]
            rounded_early.add(rounding.output)
            rounded_late[last.output] = replace(
                rounding, output=last.output, inputs=(pooled,)
            )
    return replace(program, ops=tuple(ops))


def common_pool(
    op: ir.Op, readers: Readers, outputs: set[str]
) -> ir.MaxPool | None:
    """Return the MaxPool that follows all that rounds a convolution's sums.

    Args:
        op: An operator.
        readers: Of each tensor.
        outputs: Tensors that leave the network.

    Returns:
        One of these, of the same window; None if there is one reader alone,
        something else reads sums or codes, or codes fall as sums rise.
    """
    if not isinstance(op, ir.Convolution) or op.output in outputs:
        return None
    if len(readers[op.output]) < 2:
        return None
    pools: list[ir.Op] = []
    for rounding in readers[op.output]:
        if (
            not isinstance(rounding, ir.Requantize)
            or rounding.output in outputs
        ):
            return None
        if (rounding.multipliers.m < 0).any():
            return None
        pools += readers[rounding.output]
        if len(readers[rounding.output]) != 1:
            return None
    windows = {
        (pool.kernel, pool.stride, pool.padding, pool.dilation)
        if isinstance(pool, ir.MaxPool)
        else None
        for pool in pools
    }
    if len(windows) != 1 or None in windows:
        return None
    first = pools[0]
    assert isinstance(first, ir.MaxPool)
    # Windows with holes may see the border alone, which is a code.
    return first if first.dilation == (1, 1) else None
