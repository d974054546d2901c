"""Operators that read windows of a map: convolution and pooling."""

from dataclasses import dataclass

import numpy as np

from .op import (
    INT32,
    Array,
    Arrays,
    Bound,
    Constants,
    Grid,
    Magnitude,
    Magnitudes,
    Op,
    Ops,
    Size,
    Sizes,
    WeightsByName,
)

ACCUMULATOR_BITS = 31
# Codes of 16 bits: 2^28 of them, with the fractional bits of a mean, have a
# sum of 63 bits; of larger ones few products fit 31 bits.
MAX_SUMMAND = 2**15


@dataclass(frozen=True)
class Window(Op):
    """An operator that reads a window of its input for each output."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size

    @property
    def reach(self) -> Size:
        """Rows and columns from the first of a window to its last."""
        rows, columns = (
            d * (k - 1) + 1
            for d, k in zip(self.dilation, self.kernel, strict=True)
        )
        return rows, columns

    def size(self, sizes: Sizes) -> Size:
        height, width = (
            (n + 2 * p - reach) // s + 1
            for n, p, reach, s in zip(
                sizes[self.inputs[0]],
                self.padding,
                self.reach,
                self.stride,
                strict=True,
            )
        )
        return height, width

    def windows(self, x: np.ndarray, border: int) -> np.ndarray:
        """Return a view (N, C, H, W, kH, kW) of all windows.

        Args:
            x: (N, C, H, W).
            border: Code of what lies outside.
        """
        rows, columns = self.padding
        edges = ((0, 0), (0, 0), (rows, rows), (columns, columns))
        padded = np.pad(x, edges, constant_values=border)
        sliding = np.lib.stride_tricks.sliding_window_view
        view = sliding(sliding(padded, self.reach[0], 2), self.reach[1], 3)
        (rows, columns), (down, across) = self.stride, self.dilation
        return view[:, :, ::rows, ::columns, ::down, ::across]


@dataclass(frozen=True)
class Convolution(Window):
    """Sums of products of codes and weights, in int32.

    Attributes:
        weights: Name of the weights; several may share them.
        groups: Groups of channels.
        zero: Zero points, of each channel of the input or one for all.
    """

    arithmetic = 'int32'

    weights: str
    groups: int
    zero: tuple[int, ...] = (0,)

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        (x,) = inputs
        self.expect(
            self.weights in weights,
            f'weights that the program has ({", ".join(weights)})',
            repr(self.weights),
        )
        counts = (x.channels, self.channels)
        self.expect(
            self.groups > 0 and not any(n % self.groups for n in counts),
            f'groups that divide its {x.channels} and {self.channels} '
            'channels',
            self.groups,
        )
        shape = (self.channels, x.channels // self.groups, *self.kernel)
        found = weights[self.weights].shape
        self.expect(found == shape, f'weights of shape {shape}', found)
        self.expect(self.grid == INT32, f'the range {INT32}', self.grid)
        self.expect(
            len(self.zero) in (1, x.channels),
            f'a zero point of each of {x.channels} channels, or one',
            len(self.zero),
        )
        zeros = Grid(min(self.zero), max(self.zero))
        self.expect(
            x.grid.holds(zeros),
            f'an input that has the zero points {zeros}, which the border is',
            x.grid,
        )
        self.expect_codes(x, MAX_SUMMAND)

    def largest(self, inputs: Magnitudes, weights: WeightsByName) -> Magnitude:
        largest = inputs[0].max() + max(map(abs, self.zero))
        return weights[self.weights].magnitudes * largest

    def bound(self, inputs: Magnitudes, weights: WeightsByName) -> Bound:
        return self.largest(inputs, weights), ACCUMULATOR_BITS

    def constants(self, weights: WeightsByName) -> Constants:
        zero = np.array(self.zero, np.int32)[:, None, None]
        return weights[self.weights].codes, zero

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        view = self.windows(inputs[0] - constants[1], 0)
        codes = constants[0].astype(np.int32)
        ins, outs = codes.shape[1], len(codes) // self.groups
        sums = np.zeros((len(view), self.channels, *view.shape[2:4]), np.int32)
        for group in range(self.groups):
            x = view[:, group * ins : (group + 1) * ins]
            part = slice(group * outs, (group + 1) * outs)
            for row, column in np.ndindex(self.kernel):
                sums[:, part] += np.einsum(
                    'oi,nihw->nohw',
                    codes[part, :, row, column],
                    x[..., row, column],
                    # Integers have no fast product of matrices to go to.
                    optimize=False,
                )
        return sums


@dataclass(frozen=True)
class MaxPool(Window):
    """The largest code of each window; the border is the lowest code."""

    # The lowest code may be below the type of the input.
    arithmetic = 'int32'

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        super().check(inputs, weights)
        self.expect_range(inputs[0].grid)
        for padding, reach in zip(self.padding, self.reach, strict=True):
            self.expect(
                2 * padding <= reach,
                f'a padding up to half of the {reach} pixels of its window',
                padding,
            )

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        return self.windows(inputs[0], self.grid.lo).max((-2, -1))
