"""A graph of ONNX while it is built, and how it holds codes.

Nothing here needs the package onnx; onnx_model.py makes a model of a graph.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..program import ops as ir
from ..program.op import WeightsByName

# Attributes of a node, by name: numbers, lists of them, strings, or the name
# of a type.
Attributes = dict[str, Any]
BYTES = 256
INT32_ENDS = -(2**31), 2**31 - 1
# As the end of a Slice: all that is there.
LAST = INT32_ENDS[1]


@dataclass(frozen=True)
class Node:
    """A node of the graph; what it makes has its name.

    Attributes:
        kind: Of ONNX, such as ``ConvInteger``.
        name: Its own, and its first output's.
        inputs: Names.
        attributes: Of its kind; those of the type ``type`` are types of
            numpy, and a :class:`Body` is a graph.
        others: Names of its further outputs.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    attributes: Attributes
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """What a graph is given, or gives.

    Attributes:
        name: In the graph.
        dtype: Of numpy.
        shape: Sizes, or names of those that are free.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Body:
    """The graph that a Loop repeats; it may read what is around it.

    Attributes:
        graph: Of :meth:`Graph.inner`.
        inputs: What it is given: count, condition, and what it carries.
        outputs: What it gives: condition, and what it carries.
    """

    graph: 'Graph'
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the program as the graph holds it.

    A code is what is held, plus the channel's offset. So codes of any 256
    values in a row are held as bytes, which ConvInteger and MaxPool read.

    Attributes:
        name: In the graph.
        dtype: ``uint8`` or ``int32`` between operators; ``int64`` inside some.
        offset: What is added to get codes: Python's integers, (C,).
        low: Smallest value that may be held, of each channel, (C,).
        high: Largest one, (C,).
    """

    name: str
    dtype: str
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray


def integers(values: Any, channels: int) -> np.ndarray:
    """Return Python's integers, (C,), of numbers of channels, or of one."""
    return np.broadcast_to(np.array(values, object), (channels,))


def per_channel(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers of channels as a constant that broadcasts, (1, C, 1, 1).

    Equal numbers become one, (1, 1, 1, 1).
    """
    same = all(value == values[0] for value in values)
    return np.array(values[:1] if same else values, dtype)[None, :, None, None]


def type_for(*values: np.ndarray) -> str:
    """Return the type that holds integers, ``int32`` or ``int64``."""
    low = min(x.min() for x in values)
    high = max(x.max() for x in values)
    fits = INT32_ENDS[0] <= low and high <= INT32_ENDS[1]
    return 'int32' if fits else 'int64'


class Graph:
    """Nodes in the order in which they run, and constants.

    Args:
        weights: Of the program, by name.

    Attributes:
        nodes: The nodes.
        constants: Arrays by name.
        scope: What the names of nodes begin with: the operator that is
            translated.
    """

    def __init__(self, weights: WeightsByName) -> None:
        self.weights = weights
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.scope = ''
        self._names: set[str] = set()
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def node(
        self, kind: str, *inputs: str | np.ndarray, **attributes: Any
    ) -> str:
        """Add a node.

        Args:
            kind: Of ONNX.
            inputs: Names, or arrays that become constants.
            attributes: Of the kind.

        Returns:
            str: Name of its output.
        """
        return self.several(1, kind, *inputs, **attributes)[0]

    def several(
        self,
        count: int,
        kind: str,
        *inputs: str | np.ndarray,
        **attributes: Any,
    ) -> list[str]:
        """Add a node of several outputs, and return their names.

        Args:
            count: Of the outputs.
            kind, inputs, attributes: As of :meth:`node`.
        """
        scoped = f'{self.scope}/{kind}'
        name, *others = (self.unique(scoped) for _ in range(count))
        names = self._inputs(inputs)
        self.nodes.append(Node(kind, name, names, attributes, (*others,)))
        return [name, *others]

    def put(
        self,
        kind: str,
        name: str,
        *inputs: str | np.ndarray,
        **attributes: Any,
    ) -> str:
        """Add a node as :meth:`node` does, with a name that is given."""
        self.nodes.append(Node(kind, name, self._inputs(inputs), attributes))
        return name

    def inner(self) -> 'Graph':
        """Return an empty graph for a :class:`Body`.

        Constants that it adds are this graph's, as are names.
        """
        inside = copy(self)
        inside.nodes = []
        return inside

    def constant(self, array: np.ndarray, name: str | None = None) -> str:
        """Add a constant, once, and return its name.

        Args:
            array: The numbers.
            name: Its name; by default it has that of the operator.
        """
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.unique(name or f'{self.scope}/constant')
            self.constants[self._known[key]] = array
        return self._known[key]

    def cast(self, x: str, dtype: str) -> str:
        """Convert values that the type holds."""
        return self.node('Cast', x, to=np.dtype(dtype))

    def shift_right(self, x: str, shift: np.ndarray) -> str:
        """Shift int64 values, none of which is negative.

        BitShift takes unsigned types alone. Values from 0 to 2^63 - 1 are the
        same in both types.
        """
        unsigned = self.cast(x, 'uint64')
        return self.node('BitShift', unsigned, shift, direction='RIGHT')

    def part(self, x: str, first: int, end: int) -> str:
        """Return some columns of a tensor of two axes."""
        return self.node(
            'Slice', x, np.array([first]), np.array([end]), np.array([1])
        )

    def floored(self, x: str, divisor: str | np.ndarray) -> str:
        """Return floored quotients of int64 values by positive numbers.

        ONNX's own of negative numbers round towards zero.
        """
        rest = self.node('Mod', x, divisor)
        return self.node('Div', self.node('Sub', x, rest), divisor)

    def size(self, x: str, first: int, last: int) -> str:
        """Return sizes of axes, int64 (last - first,)."""
        return self.node('Shape', x, start=first, end=last)

    def converted(self, x: Tensor, dtype: str) -> str:
        """Return what a tensor holds in another type."""
        return x.name if x.dtype == dtype else self.cast(x.name, dtype)

    def moved(self, x: Tensor, offset: np.ndarray) -> Tensor:
        """Return the same codes with other offsets, int32 or int64."""
        change = x.offset - offset
        low, high = x.low + change, x.high + change
        dtype = type_for(x.low, x.high, low, high, change)
        if x.dtype == 'int64':
            dtype = x.dtype
        name = self.converted(x, dtype)
        if change.any():
            name = self.node('Add', name, per_channel(change, dtype))
        return Tensor(name, dtype, offset, low, high)

    def codes(self, x: Tensor) -> Tensor:
        """Return a tensor's codes themselves, int32."""
        return self.moved(x, 0 * x.offset)

    def clamped(self, x: Tensor, grid: ir.Grid) -> Tensor:
        """Return a tensor's codes, limited to a grid, as they are held."""
        dtype = 'uint8' if len(grid) <= BYTES else 'int32'
        first = grid.lo if dtype == 'uint8' else 0
        y = self.moved(x, 0 * x.offset + first)
        low, high = grid.lo - first, grid.hi - first
        name = y.name
        if y.low.min() < low or y.high.max() > high:
            ends = (np.array(end, y.dtype) for end in (low, high))
            name = self.node('Clip', name, *ends)
        if y.dtype != dtype:
            name = self.cast(name, dtype)
        return Tensor(
            name, dtype, y.offset, y.low.clip(low, high),
            y.high.clip(low, high),
        )  # fmt: skip

    def unique(self, name: str) -> str:
        """Return a name that nothing else has, and reserve it."""
        number, unique = 1, name
        while unique in self._names:
            number += 1
            unique = f'{name}.{number}'
        self._names.add(unique)
        return unique

    def _inputs(self, inputs: Sequence[str | np.ndarray]) -> tuple[str, ...]:
        return tuple(
            x if isinstance(x, str) else self.constant(x) for x in inputs
        )
