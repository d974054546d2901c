"""Operators that move codes and change none."""

from dataclasses import dataclass

import numpy as np

from .op import Array, Arrays, Op, Ops, Size, Sizes, WeightsByName


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
