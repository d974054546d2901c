"""Proof that nothing overflows: docs/integer_contract.md, section 4."""

from dataclasses import dataclass
from math import log2

from ..errors import UserError
from .op import Magnitude
from .program import Program


@dataclass(frozen=True)
class Bound:
    """How close an operator can come to the end of its integers.

    Attributes:
        name: Of the operator's output.
        largest: Largest magnitude that is possible, of the accumulator or of
            product plus bias.
        headroom: Bits that are left of 31 or 63.
    """

    name: str
    largest: int
    headroom: float


def prove(program: Program) -> tuple[Bound, ...]:
    """Bound every accumulator and every product of a program.

    Args:
        program: The program.

    Raises:
        UserError: Naming the first layer that could overflow.
    """
    largest: dict[str, Magnitude] = {}
    bounds = []
    for op in program.ops:
        inputs = [largest[name] for name in op.inputs if name in largest]
        largest[op.output] = op.largest(inputs, program.weights)
        bound = op.bound(inputs, program.weights)
        if bound is None:
            continue
        magnitude, bits = bound
        worst = int(magnitude.max())
        if worst >= 2**bits:
            raise UserError(
                f'{op.where}: expected values that fit {bits} bits, found '
                f'values up to {worst}; use fewer bits or channels there'
            )
        headroom = bits - log2(worst) if worst else float(bits)
        bounds.append(Bound(op.output, worst, headroom))
    return tuple(bounds)
