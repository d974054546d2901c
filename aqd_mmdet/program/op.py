"""What all operators of a program have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import UserError
from .limits import MAX_CODE, expect
from .weights import Weights

# Of numpy, or a tensor of PyTorch: what computes with either uses only what
# both understand.
Array = Any
Arrays = Sequence[Array]
Size = tuple[int, int]
Sizes = Mapping[str, Size]
Ops = Sequence['Op']
WeightsByName = Mapping[str, Weights]
Constants = tuple[np.ndarray, ...]
# Largest magnitudes of a tensor as Python's integers, (C,) or one for all.
Magnitude = np.ndarray
Magnitudes = Sequence[Magnitude]
# What could overflow, and the bits that it must fit.
Bound = tuple[Magnitude, int]


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

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        return self.lo, self.hi

    @property
    def magnitude(self) -> int:
        """Largest magnitude of a code."""
        return max(abs(self.lo), abs(self.hi))

    def __len__(self) -> int:
        return self.hi - self.lo + 1

    def holds(self, other: 'Grid') -> bool:
        """Say whether all codes of another grid are among its own."""
        return self.lo <= other.lo and other.hi <= self.hi

    def scaled(self, factor: int) -> 'Grid':
        """Return the grid from ``lo * factor`` to ``hi * factor``."""
        return Grid(self.lo * factor, self.hi * factor)

    def __str__(self) -> str:
        return f'{self.lo}..{self.hi}'


INT32 = Grid(-MAX_CODE, MAX_CODE)


@dataclass(frozen=True)
class Op:
    """An operator of a program.

    Attributes:
        output: Name of the tensor that it makes.
        inputs: Names of the tensors that it reads.
        channels: Channels of its output.
        grid: Codes that its output may hold.
        arity: Number of its inputs; None for one or more.
        arithmetic: Type that its inputs are converted to before it runs;
            None for that of their codes.
    """

    arity: ClassVar[int | None] = 1
    arithmetic: ClassVar[str | None] = None

    output: str
    inputs: tuple[str, ...]
    channels: int
    grid: Grid

    @property
    def where(self) -> str:
        """Its name in messages."""
        return f'operator {self.output}'

    def size(self, sizes: Sizes) -> Size:
        """Return height and width of the output.

        Args:
            sizes: Of the tensors before it, by name.

        Raises:
            UserError: If it does not take inputs of such sizes.
        """
        return sizes[self.inputs[0]]

    def check(self, inputs: Ops, weights: WeightsByName) -> None:
        """Raise if it cannot read what it is given.

        Args:
            inputs: The operators that make its inputs.
            weights: Of the program, by name.

        Raises:
            UserError: Naming the condition of docs/file_format.md that does
                not hold.
        """
        for x in inputs:
            self.expect(
                x.channels == self.channels,
                f'the {self.channels} channels of its output in its inputs',
                x.channels,
            )

    def largest(self, inputs: Magnitudes, weights: WeightsByName) -> Magnitude:
        """Return the largest magnitudes of its output.

        Args:
            inputs: The same of its inputs.
            weights: Of the program, by name.
        """
        return np.array([self.grid.magnitude], object)

    def bound(
        self, inputs: Magnitudes, weights: WeightsByName
    ) -> Bound | None:
        """Return what could overflow, or None if nothing can.

        Args:
            inputs, weights: As of :meth:`largest`.
        """
        return None

    def constants(self, weights: WeightsByName) -> Constants:
        """Return the arrays that it computes with besides its inputs."""
        return ()

    def run(self, inputs: Arrays, constants: Arrays) -> Array:
        """Compute it; docs/integer_contract.md, section 3.

        Args:
            inputs: (N, C, H, W), of the type that ``arithmetic`` names.
            constants: Of :meth:`constants`.

        Returns:
            Array: Codes of its grid, of any integer type.
        """
        raise NotImplementedError

    def expect(self, ok: bool, expected: str, found: Any) -> None:
        """Raise if a condition does not hold, naming this operator."""
        expect(ok, self.where, expected, found)

    def expect_range(self, grid: Grid) -> None:
        """Raise if its range does not hold all codes that it can make."""
        self.expect(
            self.grid.holds(grid),
            f'a range that holds the codes {grid} of its input',
            self.grid,
        )

    def expect_codes(self, x: 'Op', limit: int) -> None:
        """Raise if the codes of an input are larger than a limit."""
        self.expect(
            Grid(-limit, limit).holds(x.grid),
            f'codes from {-limit} to {limit} in its input {x.output}',
            x.grid,
        )

    def same_size(self, sizes: Sizes) -> Size:
        """Return the size that all its inputs have.

        Raises:
            UserError: If they have several.
        """
        first, *others = (sizes[name] for name in self.inputs)
        for other in others:
            if other != first:
                raise UserError(
                    f'{self.where}: expected inputs of one size, found '
                    f'{first[0]} x {first[1]} and {other[0]} x {other[1]}: '
                    'take an image of another size'
                )
        return first
