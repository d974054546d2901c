"""Proof that nothing overflows: docs/integer_contract.md, section 4."""

from dataclasses import dataclass
from math import log2

import numpy as np

from ..errors import UserError
from . import ops as ir

ACCUMULATOR_BITS = 31
WIDE_BITS = 63


@dataclass(frozen=True)
class Bound:
    """How close an operator can come to the end of its integers.

    Attributes:
        name: Of the operator's output.
        largest: Largest magnitude that is possible, of the accumulator or of
            product plus bias.
        slack: Bits that are left of 31 or 63.
    """

    name: str
    largest: int
    slack: float


def prove(program: ir.Program) -> tuple[Bound, ...]:
    """Bound every accumulator and every product of a program.

    Args:
        program: The program.

    Raises:
        UserError: Naming the first layer that could overflow.
    """
    # Largest magnitudes of each tensor, per channel or one for all.
    largest: dict[str, np.ndarray] = {}
    # Pyramid levels share weights.
    sums = {
        name: np.abs(weights.codes).sum((1, 2, 3), np.int64).astype(object)
        for name, weights in program.weights.items()
    }
    bounds = []
    for op in program.ops:
        limit = max(abs(op.grid.lo), abs(op.grid.hi))
        largest[op.output] = np.array([limit], object)
        if isinstance(op, ir.Convolution):
            found = sums[op.weights] * largest[op.inputs[0]].max()
            largest[op.output] = found
            bits = ACCUMULATOR_BITS
        elif isinstance(op, ir.Requantize):
            table = op.multipliers
            m, b = (np.abs(x.astype(object)) for x in (table.m, table.b))
            found = largest[op.inputs[0]] * m + b
            bits = WIDE_BITS
        else:
            continue
        worst = int(found.max())
        slack = bits - log2(worst) if worst else float(bits)
        if worst >= 2**bits:
            raise UserError(
                f'{op.output}: values up to {worst} do not fit {bits} bits; '
                'use fewer bits or channels there'
            )
        bounds.append(Bound(op.output, worst, slack))
    return tuple(bounds)
