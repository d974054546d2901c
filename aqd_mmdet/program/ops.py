"""The integer program: typed, immutable, independent of image size.

An operator is one dataclass here: its fields in the file, the conditions that
they must meet, its bound, and what it computes. docs/integer_contract.md,
section 3, has a paragraph for each.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from .fixed_point import Multipliers, check_multipliers
from .op import (
    INT32,
    Array,
    Arrays,
    Bound,
    Constants,
    Grid,
    Magnitudes,
    Op,
    Ops,
    Size,
    Sizes,
    WeightsByName,
)
from .program import Output, Program
from .weights import Weights
from .window_ops import MAX_SUMMAND, Convolution, MaxPool, Window

__all__ = [
    'INT32',
    'MAX_SUMMAND',
    'MEAN_BITS',
    'OPERATORS',
    'Add',
    'Concatenate',
    'Convolution',
    'Grid',
    'Image',
    'Lookup',
    'MaxPool',
    'Mean',
    'Multiply',
    'Op',
    'Output',
    'Program',
    'Region',
    'Requantize',
    'Size',
    'Slice',
    'Upsample',
    'Weights',
    'Window',
]

PRODUCT_BITS = 63
# Of a mean, of a map or a region: far below what the 8 bits of its reader
# tell apart.
MEAN_BITS = 8
# The sum of two of these fits int32 before it is clamped.
MAX_TERM = 2**30


@dataclass(frozen=True)
class Image(Op):
    """Pixels minus their channel's integer mean."""

    arithmetic = 'int16'

    mean: tuple[int, ...]

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        self.expect(
            len(self.mean) == self.channels,
            f'a mean of each of its {self.channels} channels',
            len(self.mean),
        )
        self.expect(
            self.grid.holds(Grid(-255, 255)),
            'a range that holds -255..255',
            self.grid,
        )

    def constants(self, weights: WeightsByName) -> Constants:
        return (np.array(self.mean, np.int16)[:, None, None],)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        return inputs[0] - constants[0]


@dataclass(frozen=True)
class Region(Op):
    """Averages of a region, with ``MEAN_BITS`` fractional bits."""

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        """What it is given are no tensors of the program."""

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        return inputs[0]


@dataclass(frozen=True)
class Requantize(Op):
    """The one rounding: codes of another grid, per channel or per tensor."""

    arithmetic = 'int64'

    multipliers: Multipliers

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        check_multipliers(self.multipliers, self.channels, self.where)

    def bound(self, inputs: Magnitudes, weights: WeightsByName) -> Bound:
        m, b = (
            np.abs(x.astype(object))
            for x in (self.multipliers.m, self.multipliers.b)
        )
        return inputs[0] * m + b, PRODUCT_BITS

    def constants(self, weights: WeightsByName) -> Constants:
        table = self.multipliers
        return tuple(
            x.astype(np.int64)[:, None, None]
            for x in (table.m, table.b, table.s)
        )

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        m, b, s = constants
        wide = inputs[0] * m
        wide += b
        wide >>= s
        return wide.clip(self.grid.lo, self.grid.hi)


@dataclass(frozen=True)
class Add(Op):
    """The sum of two tensors of one step, saturated."""

    arity = 2
    arithmetic = 'int32'

    def size(self, sizes: Sizes) -> Size:
        return self.same_size(sizes)

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        for x in inputs:
            self.expect_codes(x, MAX_TERM)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        x, y = inputs
        return (x + y).clip(self.grid.lo, self.grid.hi)


@dataclass(frozen=True)
class Multiply(Op):
    """The product of two tensors; the second may have one value a map."""

    arity = 2
    arithmetic = 'int32'

    def size(self, sizes: Sizes) -> Size:
        x, y = self.inputs
        return sizes[x] if sizes[y] == (1, 1) else self.same_size(sizes)

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        x, y = (op.grid for op in inputs)
        ends = [a * b for a in (x.lo, x.hi) for b in (y.lo, y.hi)]
        self.expect_range(Grid(min(ends), max(ends)))

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        x, y = inputs
        return x * y


@dataclass(frozen=True)
class Mean(Op):
    """The average of each map, with ``MEAN_BITS`` fractional bits."""

    arithmetic = 'int64'

    def size(self, sizes: Sizes) -> Size:
        return 1, 1

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        self.expect_codes(inputs[0], MAX_SUMMAND)
        self.expect_range(inputs[0].grid.scaled(2**MEAN_BITS))

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        (x,) = inputs
        count = prod(x.shape[2:])
        total = x.sum(axis=(2, 3), keepdims=True) << (MEAN_BITS + 1)
        return (total + count) // (2 * count)


@dataclass(frozen=True)
class Lookup(Op):
    """Any function of one code.

    Attributes:
        table: Codes, int32, one for each of the input's from its lowest.
        first: The input's lowest code.
    """

    arithmetic = 'int64'

    table: np.ndarray
    first: int

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        grid, table = inputs[0].grid, self.table
        self.expect(
            self.first == grid.lo,
            f'a table from {grid.lo}, the lowest code of its input',
            self.first,
        )
        self.expect(
            table.dtype == np.int32
            and table.shape == (grid.hi - grid.lo + 1,),
            f'a table of int32 for the codes {grid} of its input',
            f'{table.dtype} {table.shape}',
        )
        codes = Grid(int(table.min()), int(table.max()))
        self.expect(
            self.grid.holds(codes),
            f'a range that holds the codes {codes} of its table',
            self.grid,
        )

    def constants(self, weights: WeightsByName) -> Constants:
        return (self.table,)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        return constants[0][inputs[0] - self.first]


@dataclass(frozen=True)
class Upsample(Op):
    """Nearest neighbour, to the size of the second input."""

    arity = 2

    def size(self, sizes: Sizes) -> Size:
        return sizes[self.inputs[1]]

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs[:1], weights)
        self.expect_range(inputs[0].grid)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        x, like = inputs
        rows, columns = (
            np.arange(like.shape[axis]) * x.shape[axis] // like.shape[axis]
            for axis in (2, 3)
        )
        return x[:, :, rows[:, None], columns]


@dataclass(frozen=True)
class Concatenate(Op):
    """All inputs' channels, one after another."""

    arity = None

    def size(self, sizes: Sizes) -> Size:
        return self.same_size(sizes)

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        total = sum(x.channels for x in inputs)
        self.expect(
            self.channels == total,
            f'the {total} channels of its inputs',
            self.channels,
        )
        for x in inputs:
            self.expect_range(x.grid)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        return np.concatenate(inputs, 1)


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

    def size(self, sizes: Sizes) -> Size:
        height, width = (
            -(-(n - o) // s)
            for n, o, s in zip(
                sizes[self.inputs[0]], self.offset, self.step, strict=True
            )
        )
        return height, width

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        (x,) = inputs
        self.expect(
            0 <= self.first <= x.channels - self.channels,
            f'{self.channels} of the {x.channels} channels of its input',
            f'those from {self.first}',
        )
        self.expect_range(x.grid)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        x = inputs[0][:, self.first : self.first + self.channels]
        (row, column), (down, across) = self.offset, self.step
        return x[:, :, row::down, column::across]


OPERATORS: tuple[type[Op], ...] = (
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
