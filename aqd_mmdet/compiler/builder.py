"""Makes a program, operator by operator, from values of a graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from ..errors import UserError
from ..program import ops as ir
from ..program.fixed_point import FixedPoint, real_multipliers
from ..quantizers.grid import Grid
from ..quantizers.quantizer import RoundingModule
from .graph import Trace
from .values import Affine, Movement, Table, TracedSize, Value

# Makes an operator that moves codes: given the name of its output, its
# inputs, the sum of their channels, and the range of their codes.
MakeMovement = Callable[[str, tuple[str, ...], int, ir.Grid], ir.Op]


class Builder:
    """A program in the making.

    Args:
        trace: The graph that it is made of.
        fixed_point: Width of the multipliers.

    Attributes:
        values: What stands for each node of the graph.
        weights: Of the program, by name.
        codes: For each call of a layer, the tensors of codes that it reads.
    """

    def __init__(self, trace: Trace, fixed_point: FixedPoint) -> None:
        self.trace = trace
        self.fixed_point = fixed_point
        self.values: dict[Any, Value] = {}
        self.weights: dict[str, ir.Weights] = {}
        self.codes: dict[Node, tuple[str, ...]] = {}
        self._ops: dict[str, ir.Op] = {}
        # The same value on the same grid is rounded once.
        self._rounded: dict[tuple[Value, float, ir.Grid], str] = {}
        # The last tensor of each size, for upsampling to it; sizes that are
        # written in several ways are told by their numbers.
        self._by_size: dict[str | ir.Size, str] = {}

    @property
    def ops(self) -> tuple[ir.Op, ...]:
        """The operators so far, in their order."""
        return tuple(self._ops.values())

    def op(self, name: str) -> ir.Op:
        """Return the operator that makes a tensor."""
        return self._ops[name]

    def parameter(self, node: Node) -> Tensor:
        """Return the parameter or buffer that a node of the graph names."""
        return self.trace.tensor(node)

    def emit(self, op: ir.Op, size: TracedSize) -> str:
        """Add an operator; its name becomes unique, and is returned."""
        name, number = op.output, 1
        while name in self._ops:
            number += 1
            name = f'{op.output}#{number}'
        self._ops[name] = replace(op, output=name)
        self._by_size[size.symbols] = self._by_size[size.numbers] = name
        return name

    def tensor_of_size(self, size: TracedSize) -> str | None:
        """Return a tensor of the program that has a size, None if none."""
        by_size = self._by_size
        return by_size.get(size.symbols) or by_size.get(size.numbers)

    def read(
        self, node: Node, quantizer: RoundingModule, name: str
    ) -> tuple[str, float]:
        """Return the codes that a layer's quantiser reads, and their step."""
        step = float(quantizer.step)
        grid = program_grid(quantizer.grid)
        return self.quantize(self.values[node], step, grid, name), step

    def quantize(
        self, value: Value, step: float, grid: ir.Grid, name: str
    ) -> str:
        """Return the tensor of a value's codes on a grid.

        Args:
            value: In real numbers.
            step: Of the grid.
            grid: Its codes.
            name: Of the tensor, where one has to be made.

        Raises:
            UserError: If a number does not fit its type.
        """
        if not np.isfinite(step):
            raise UserError(f'{name}: its clip value is not finite')
        key = (value, step, grid)
        if key not in self._rounded:
            self._rounded[key] = self._quantize(value, step, grid, name)
        return self._rounded[key]

    def _quantize(
        self, value: Value, step: float, grid: ir.Grid, name: str
    ) -> str:
        if isinstance(value, Affine):
            return self.requantize(value, step, grid, name)
        if isinstance(value, Table):
            return self._look_up(value, step, grid, name)
        return value.emit(
            tuple(self.quantize(v, step, grid, name) for v in value.values)
        )

    def requantize(
        self, value: Affine, step: float, grid: ir.Grid, name: str
    ) -> str:
        """Return the tensor of an affine value's codes on a grid."""
        source = self.op(value.source)
        # An activation's limits round as the values that they limit do.
        lo, hi = (
            _round(min(max(x / step, grid.lo), grid.hi))
            for x in (value.low, value.high)
        )
        ratio, offset = value.scale / step, value.offset / step
        inside = lo <= source.grid.lo and source.grid.hi <= hi
        if inside and (ratio == 1).all() and (offset == 0).all():
            return value.source
        try:
            multipliers = real_multipliers(ratio, offset, self.fixed_point)
        except UserError as error:
            raise UserError(f'{name}: {error}') from None
        op = ir.Requantize(
            name,
            (value.source,),
            source.channels,
            ir.Grid(lo, hi),
            multipliers,
        )
        return self.emit(op, value.size)

    def _look_up(
        self, value: Table, step: float, grid: ir.Grid, name: str
    ) -> str:
        source = self.op(value.source)
        table = np.floor(value.values / step + 0.5)
        op = ir.Lookup(
            name,
            (value.source,),
            source.channels,
            grid,
            np.clip(table, grid.lo, grid.hi).astype(np.int32),
            source.grid.lo,
        )
        return self.emit(op, value.size)

    def move(self, node: Node, make: MakeMovement, *values: Value) -> Movement:
        """Return the value of an operator that only moves its inputs'.

        Args:
            node: The operator.
            make: Makes the program's operator.
            *values: What it moves.
        """

        def emit(codes: tuple[str, ...]) -> str:
            sources = [self.op(name) for name in codes]
            channels = sum(x.channels for x in sources)
            grid = ir.Grid(
                min(x.grid.lo for x in sources),
                max(x.grid.hi for x in sources),
            )
            op = make(node.name, codes, channels, grid)
            return self.emit(op, TracedSize.of(node))

        return Movement(values, emit)

    def output(self, nodes: tuple[Node, ...], number: int) -> ir.Output:
        """Requantise all levels of one output to one scale."""
        values = []
        for node in nodes:
            value = self.values[node]
            if not isinstance(value, Affine):
                raise UserError(
                    f'{source_of(node)}: an output is moved after its last '
                    'convolution; this is not supported'
                )
            values.append(value)
        # The smallest of all levels', so that none loses bits.
        scale = min(float(np.abs(v.scale).max()) for v in values)
        names = tuple(
            self.requantize(v, scale, ir.INT32, f'output{number}.{level}')
            for level, v in enumerate(values)
        )
        return ir.Output(names, scale)


def program_grid(grid: Grid) -> ir.Grid:
    """Return the range of a quantiser's codes."""
    return ir.Grid(grid.lo, grid.hi)


def source_of(node: Node) -> str:
    """Return a graph node's module and line of source, for messages."""
    stack = node.meta.get('nn_module_stack') or {}
    path = next(reversed(stack.values()))[0] if stack else ''
    lines = [
        line.strip()
        for line in (node.meta.get('stack_trace') or '').splitlines()
        if line.strip().startswith('File ')
    ]
    source = f' ({lines[-1]})' if lines else ''
    name = str(path).removeprefix('detector').removeprefix('.') or 'detector'
    return f'{name}: {node.target}{source}'


def _round(x: float) -> int:
    return int(np.floor(x + 0.5))
