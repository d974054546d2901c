"""A program: operators in order, their weights, and what leaves it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from .fixed_point import Multipliers
from .limits import TENSOR_SIDE, expect, expect_within
from .op import Op, Size
from .weights import Weights


@dataclass(frozen=True)
class Output:
    """What leaves the network: one kind of map, all levels of one scale.

    Attributes:
        tensors: Names, from the finest level to the coarsest.
        scale: Real value of one unit. Nothing is computed with it; it is for
            people, and for whoever derives thresholds.
    """

    tensors: tuple[str, ...]
    scale: float


@dataclass(frozen=True)
class Program:
    """A network on integers.

    Attributes:
        ops: In an order in which they can be run.
        weights: By name.
        outputs: In the order of the head's outputs.
        stride: Sides of the image must be multiples of it.
    """

    ops: tuple[Op, ...]
    weights: Mapping[str, Weights]
    outputs: tuple[Output, ...]
    stride: int

    @property
    def by_output(self) -> dict[str, Op]:
        """The operators by the names of the tensors that they make."""
        return {op.output: op for op in self.ops}

    def readers(self) -> dict[str, list[Op | None]]:
        """Return what reads each tensor, by its name.

        An operator, or None where the tensor leaves the network.
        """
        found: dict[str, list[Op | None]] = {op.output: [] for op in self.ops}
        for op in self.ops:
            for name in op.inputs:
                found.setdefault(name, []).append(op)
        for name in self.output_names():
            found[name].append(None)
        return found

    def output_names(self) -> tuple[str, ...]:
        """Return the names of all tensors that leave the network."""
        return tuple(name for out in self.outputs for name in out.tensors)

    def sizes(self, image: Size) -> dict[str, Size]:
        """Return height and width of every tensor for an image's.

        Raises:
            UserError: If the image's are no multiples of the stride, a tensor
                would have no pixel or too many, or inputs of an operator have
                other sizes than it takes.
        """
        height, width = image
        expect(
            height % self.stride == 0 and width % self.stride == 0,
            'input',
            f'sides that are multiples of {self.stride}, the stride of the '
            'program',
            f'{height} x {width}',
        )
        sizes: dict[str, Size] = {'image': image}
        for op in self.ops:
            sizes[op.output] = size = op.size(sizes)
            expect_within(TENSOR_SIDE, f'size of {op.output}', *sorted(size))
        return sizes

    def last_uses(self) -> dict[str, int]:
        """Return the position of the operator that last reads each tensor."""
        last = {
            name: position
            for position, op in enumerate(self.ops)
            for name in op.inputs
        }
        return last | dict.fromkeys(self.output_names(), len(self.ops))


def listing(program: Program) -> Iterator[str]:
    """Yield a program as lines that people read."""
    for op in program.ops:
        yield (
            f'{op.output}[{op.channels}] {op.grid} = '
            f'{type(op).__name__.lower()}({", ".join(op.inputs)})'
            f'{_details(program, op)}'
        )
    for out in program.outputs:
        yield f'output {", ".join(out.tensors)}, unit {out.scale:.6g}'


def _details(program: Program, op: Op) -> str:
    parts = []
    for field in fields(op)[len(fields(Op)) :]:
        value = getattr(op, field.name)
        if isinstance(value, Multipliers):
            low, high = value.s.min(), value.s.max()
            parts.append(f'{len(value.m)} multipliers, shift {low}..{high}')
        elif field.name == 'weights':
            parts.append(f'{value} {program.weights[value].bits} bits')
        elif field.name == 'table':
            parts.append(f'table of {len(value)}')
        else:
            parts.append(f'{field.name} {value}')
    return f'  # {"; ".join(parts)}' if parts else ''
