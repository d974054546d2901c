"""The integer program: typed, immutable, independent of image size.

An operator is one dataclass here: its fields in the file, the conditions that
they must meet, its bound, and what it computes. docs/integer_contract.md,
section 3, has a paragraph for each.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from .arrays import Rows
from .fixed_point import Multipliers, check_multipliers
from .movement_ops import Concatenate, Slice, Upsample
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
    'MAX_EPSILON',
    'MAX_SUMMAND',
    'MEAN_BITS',
    'MOMENT_BITS',
    'NORM_BITS',
    'OPERATORS',
    'Add',
    'Concatenate',
    'Convolution',
    'Grid',
    'GroupNorm',
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
# Of a normalised value, of 16 bits: up to 8 deviations.
NORM_BITS = 12
# Of a group norm's mean and variance.
MOMENT_BITS = 16
# So many codes of 16 bits have a sum of squares of 63 bits.
MAX_GROUP = 2**32
# With a variance of 47 bits, a sum far below 2^62.
MAX_EPSILON = 2**48
# The sum of two of these fits int32 before it is clamped.
MAX_TERM = 2**30 - 1


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
class GroupNorm(Op):
    """Deviations from a group's mean, divided by its standard deviation.

    Attributes:
        groups: Groups of channels.
        epsilon: What is added to the variance, in 2^-16 of a code squared.
    """

    arithmetic = 'int64'

    groups: int
    epsilon: int

    def size(self, sizes: Sizes) -> Size:
        height, width = sizes[self.inputs[0]]
        count = self.channels // self.groups * height * width
        self.expect(
            count <= MAX_GROUP,
            f'at most {MAX_GROUP} codes of a group; take a smaller image',
            count,
        )
        return height, width

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        self.expect(
            self.groups > 0 and self.channels % self.groups == 0,
            f'groups that divide its {self.channels} channels',
            self.groups,
        )
        self.expect(
            1 <= self.epsilon <= MAX_EPSILON,
            f'an epsilon from 1 to {MAX_EPSILON}',
            self.epsilon,
        )
        self.expect_codes(inputs[0], MAX_SUMMAND)

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        x = inputs[0].reshape(len(inputs[0]), self.groups, -1)
        count = x.shape[2]
        total = x.sum(axis=2, keepdims=True)
        whole = total // count
        rest = total - whole * count
        squares = (x * x).sum(axis=2, keepdims=True) - whole * (total + rest)
        mean = (rest << MOMENT_BITS) // count
        variance = (squares // count) << MOMENT_BITS
        variance += ((squares % count) << MOMENT_BITS) // count
        variance += self.epsilon - ((mean * mean) >> MOMENT_BITS)
        reciprocal, shift = _reciprocal_root(variance)
        wide = (((x - whole) << MOMENT_BITS) - mean) * reciprocal
        wide += 1 << (shift - 1)
        codes = (wide >> shift).clip(self.grid.lo, self.grid.hi)
        return codes.reshape(inputs[0].shape)


def _reciprocal_root(variance: Array) -> tuple[Array, Array]:
    """Return the reciprocal of a standard deviation, and its shift.

    A deviation in 2^-16 of a code, times the one and shifted by the other, is
    in units of 2^-12.
    """
    shift = 56 + 0 * variance
    for step in (16, 8, 4, 2, 1):
        fits = variance < 1 << (62 - 2 * step)
        variance = variance << (2 * step * fits)
        shift = shift - step * fits
    # Of the integer square root, bit by bit: floats are not exact here.
    root = 0 * variance
    for bit in range(30, -1, -1):
        larger = root + (1 << bit)
        root = root + (larger * larger <= variance) * (1 << bit)
    return (1 << 60) // root, shift


@dataclass(frozen=True)
class Lookup(Op):
    """Any function of one code.

    Attributes:
        table: Codes, int32: one for each of the input's, from its
            lowest; then those of the next row.
        first: The input's lowest code.
        rows: Which part of the table serves each channel, or all.
    """

    arithmetic = 'int64'

    table: Rows
    first: int
    rows: tuple[int, ...] = (0,)

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        grid, table = inputs[0].grid, self.table
        self.expect(
            self.first == grid.lo,
            f'a table from {grid.lo}, the lowest code of its input',
            self.first,
        )
        self.expect(
            len(self.rows) in (1, self.channels) and min(self.rows) >= 0,
            f'a row for each of its {self.channels} channels, or one',
            f'{len(self.rows)}, from {min(self.rows, default=0)}',
        )
        count = max(self.rows) + 1
        self.expect(
            table.dtype == np.int32 and table.shape == (count * len(grid),),
            f'a table of int32, {count} x {len(grid)} numbers for '
            f'the codes {grid} of its input',
            f'{table.dtype} {table.shape}',
        )
        codes = Grid(int(table.min()), int(table.max()))
        self.expect(
            self.grid.holds(codes),
            f'a range that holds the codes {codes} of its table',
            self.grid,
        )

    def constants(self, weights: WeightsByName) -> Constants:
        count = len(self.table) // (max(self.rows) + 1)
        starts = np.array(self.rows, np.int64) * count - self.first
        return self.table, starts[:, None, None]

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        return constants[0][inputs[0] + constants[1]]


OPERATORS: tuple[type[Op], ...] = (
    Image,
    Region,
    Convolution,
    MaxPool,
    Requantize,
    Add,
    Multiply,
    Mean,
    GroupNorm,
    Lookup,
    Upsample,
    Concatenate,
    Slice,
)
