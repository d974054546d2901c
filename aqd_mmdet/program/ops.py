"""The integer program: typed, immutable, independent of image size.

An operator is one dataclass here, one function in every executor, and one
paragraph in docs/integer_contract.md, section 3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import prod

import numpy as np

from .fixed_point import Multipliers
from .packing import first_and_stride, pack, unpack

Size = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The codes that a tensor may hold: all integers ``lo..hi``."""

    lo: int
    hi: int

    @property
    def dtype(self) -> np.dtype:
        """The smallest of the contract's integer types that holds them."""
        for kind in (np.uint8, np.int8, np.int16, np.int32):
            info = np.iinfo(kind)
            if info.min <= self.lo and self.hi <= info.max:
                return np.dtype(kind)
        raise ValueError(f'codes {self.lo}..{self.hi} do not fit int32')


# Of a mean, of a map or a region: far below what the 8 bits of its reader
# tell apart.
MEAN_BITS = 8
INT32 = Grid(-(2**31) + 1, 2**31 - 1)


@dataclass(frozen=True)
class Op:
    """What all operators have.

    Attributes:
        output: Name of the tensor that it makes.
        inputs: Names of the tensors that it reads.
        channels: Channels of its output.
        grid: Codes that its output may hold.
    """

    output: str
    inputs: tuple[str, ...]
    channels: int
    grid: Grid

    def size(self, sizes: Mapping[str, Size]) -> Size:
        """Return height and width of the output, those of inputs given."""
        return sizes[self.inputs[0]]


@dataclass(frozen=True)
class Image(Op):
    """Pixels minus their channel's integer mean."""

    mean: tuple[int, ...]


@dataclass(frozen=True)
class Region(Op):
    """Averages of a region, with ``MEAN_BITS`` fractional bits."""


@dataclass(frozen=True)
class Window(Op):
    """An operator that reads a window of its input for each output."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size

    def size(self, sizes: Mapping[str, Size]) -> Size:
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                sizes[self.inputs[0]],
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        )
        return height, width


@dataclass(frozen=True)
class Convolution(Window):
    """Sums of products of codes and weights, in int32.

    Attributes:
        weights: Name of the weights; several may share them.
        groups: Groups of channels.
    """

    weights: str
    groups: int


@dataclass(frozen=True)
class MaxPool(Window):
    """The largest code of each window."""


@dataclass(frozen=True)
class Requantize(Op):
    """The one rounding: codes of another grid, per channel or per tensor."""

    multipliers: Multipliers


@dataclass(frozen=True)
class Add(Op):
    """The sum of two tensors of one step, saturated."""


@dataclass(frozen=True)
class Multiply(Op):
    """The product of two tensors; the second may have one value a map."""


@dataclass(frozen=True)
class Mean(Op):
    """The average of each map, with ``MEAN_BITS`` fractional bits."""

    def size(self, sizes: Mapping[str, Size]) -> Size:
        return 1, 1


@dataclass(frozen=True)
class Lookup(Op):
    """Any function of one code.

    Attributes:
        table: Codes, int32, one for each of the input's from its lowest.
        first: The input's lowest code.
    """

    table: np.ndarray
    first: int


@dataclass(frozen=True)
class Upsample(Op):
    """Nearest neighbour, to the size of the second input."""

    def size(self, sizes: Mapping[str, Size]) -> Size:
        return sizes[self.inputs[1]]


@dataclass(frozen=True)
class Concatenate(Op):
    """All inputs' channels, one after another."""


@dataclass(frozen=True)
class Slice(Op):
    """Part of a tensor: channels from ``first``, pixels by a step.

    Attributes:
        first: First channel; ``channels`` says how many.
        offset: First row and column.
        step: Distance of rows and of columns.
    """

    first: int
    offset: Size
    step: Size

    def size(self, sizes: Mapping[str, Size]) -> Size:
        height, width = (
            -(-(n - o) // s)
            for n, o, s in zip(
                sizes[self.inputs[0]], self.offset, self.step, strict=True
            )
        )
        return height, width


OPERATORS = (
    Image,
    Region,
    Convolution,
    MaxPool,
    Requantize,
    Add,
    Multiply,
    Mean,
    Lookup,
    Upsample,
    Concatenate,
    Slice,
)


@dataclass(frozen=True)
class Weights:
    """The integer weights of a layer, packed as in a file.

    They are many, and the engine has its own: codes are unpacked when they
    are read.

    Attributes:
        bits: Width of a level, 2 to 8.
        shape: O, I / groups, kH, kW.
        packed: uint8, levels by :func:`~.packing.pack`.
    """

    bits: int
    shape: tuple[int, ...]
    packed: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, bits: int) -> 'Weights':
        """Return codes, as :attr:`codes` has them, packed."""
        first, stride = first_and_stride(bits)
        levels = (codes.astype(np.int16) - first) // stride
        return cls(bits, codes.shape, pack(levels, bits))

    @property
    def codes(self) -> np.ndarray:
        """int8 (O, I / groups, kH, kW), -127 to 127; odd below 8 bits."""
        first, stride = first_and_stride(self.bits)
        levels = unpack(self.packed, self.bits, prod(self.shape))
        table = (np.arange(2**self.bits) * stride + first).astype(np.int8)
        return table[levels].reshape(self.shape)


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

    def output_names(self) -> tuple[str, ...]:
        """Return the names of all tensors that leave the network."""
        return tuple(name for out in self.outputs for name in out.tensors)

    def sizes(self, image: Size) -> dict[str, Size]:
        """Return height and width of every tensor for an image's."""
        sizes: dict[str, Size] = {'image': image}
        for op in self.ops:
            sizes[op.output] = op.size(sizes)
        return sizes

    def last_uses(self) -> dict[str, int]:
        """Return the position of the operator that last reads each tensor."""
        last = {
            name: position
            for position, op in enumerate(self.ops)
            for name in op.inputs
        }
        return last | dict.fromkeys(self.output_names(), len(self.ops))


@dataclass(frozen=True)
class MemoryPlan:
    """Where each tensor lies in one arena, for one image.

    Attributes:
        offsets: First byte of each tensor.
        peak: Size of the arena in bytes.
    """

    offsets: Mapping[str, int]
    peak: int


# Tensors start where a cache line does.
ALIGNMENT = 64


def tensor_bytes(op: Op, size: Size) -> int:
    """Return the bytes of an operator's output for its height and width."""
    count = op.channels * size[0] * size[1] * op.grid.dtype.itemsize
    return -(-count // ALIGNMENT) * ALIGNMENT


def plan_memory(program: Program, image: Size) -> MemoryPlan:
    """Give each tensor a place that no living one occupies, first fit.

    Args:
        program: The program.
        image: Height and width of the network's image.
    """
    sizes = program.sizes(image)
    last = program.last_uses()
    living: list[tuple[int, int, str]] = []  # first byte, end, name
    offsets: dict[str, int] = {}
    peak = 0
    for position, op in enumerate(program.ops):
        need = tensor_bytes(op, sizes[op.output])
        at = 0
        for start, end, _ in sorted(living):
            if at + need <= start:
                break
            at = max(at, end)
        offsets[op.output] = at
        living.append((at, at + need, op.output))
        peak = max(peak, at + need)
        living = [x for x in living if last.get(x[2], -1) > position]
    return MemoryPlan(offsets, peak)


def listing(program: Program) -> Iterator[str]:
    """Yield a program as lines that people read."""
    for op in program.ops:
        grid = op.grid
        yield (
            f'{op.output}[{op.channels}] {grid.lo}..{grid.hi} = '
            f'{type(op).__name__.lower()}({", ".join(op.inputs)})'
            f'{_details(program, op)}'
        )
    for out in program.outputs:
        yield f'output {", ".join(out.tensors)}, unit {out.scale:.6g}'


def _details(program: Program, op: Op) -> str:
    parts = []
    for field in fields(op)[4:]:
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
