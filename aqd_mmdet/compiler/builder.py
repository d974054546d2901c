"""Makes a program, operator by operator, from values of a graph."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from ..errors import UserError
from ..program import ops as ir
from ..program.fixed_point import FixedPoint, real_multipliers
from ..quantizers.grid import Grid
from ..quantizers.quantizer import Quantizer, RoundingModule
from .graph import Trace, constant
from .values import Affine, Movement, Table, TracedSize, Value, real

# More than what rounding adds to the largest value of an output.
ROUNDING = 2.0**-20


@dataclass(frozen=True)
class Scale:
    """What codes of a quantiser stand for: ``(code - zero) * step``.

    Attributes:
        step: float64, (C,) or (1,).
        zero: Zero points, int64 of the same shape.
        grid: The codes.
    """

    step: np.ndarray
    zero: np.ndarray
    grid: ir.Grid

    @classmethod
    def of(cls, quantizer: RoundingModule) -> 'Scale':
        """Return that of a quantiser."""
        step = real(quantizer.step)
        zero = np.zeros(step.shape, np.int64)
        if isinstance(quantizer, Quantizer):
            zero += real(quantizer.zero).astype(np.int64)
        return cls(step, zero, program_grid(quantizer.grid))

    @classmethod
    def uniform(cls, step: float, grid: ir.Grid) -> 'Scale':
        """Return one step for all channels, and zero points of 0."""
        return cls(np.array([step]), np.zeros(1, np.int64), grid)

    @property
    def key(self) -> Hashable:
        """What is equal for equal ones."""
        return self.step.tobytes(), self.zero.tobytes(), self.grid

    def of_parts(self, movement: Movement) -> 'list[Scale]':
        """Return those of the values that are moved."""
        if len(self.step) == 1:
            return [self] * len(movement.values)
        parts = zip(
            movement.per_channel(self.step),
            movement.per_channel(self.zero),
            strict=True,
        )
        return [Scale(step, zero, self.grid) for step, zero in parts]


class _Values(dict[Any, Value]):
    """What stands for nodes; of parameters, nothing does."""

    def __missing__(self, node: Node) -> Value:
        reader = next(iter(node.users), node)
        raise UserError(
            f'{source_of(reader)} stays float: it reads {node.target}, which '
            'is computed of no map; a program multiplies maps by such '
            'numbers, one at a time, and does nothing else with them'
        )


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
        flat: Nodes that are rows, but whose values are maps of several
            pixels: a linear layer reads these as a window.
    """

    def __init__(self, trace: Trace, fixed_point: FixedPoint) -> None:
        self.trace = trace
        self.fixed_point = fixed_point
        self.values: dict[Any, Value] = _Values()
        self.weights: dict[str, ir.Weights] = {}
        self.codes: dict[Node, tuple[str, ...]] = {}
        self.flat: set[Node] = set()
        self._ops: dict[str, ir.Op] = {}
        # The same value on the same grid is rounded once.
        self._rounded: dict[tuple[Value, Hashable], str] = {}
        # The last tensor of each size, for upsampling to it; sizes that are
        # written in several ways are told by their numbers.
        self._by_size: dict[str | tuple[int, ...], str] = {}

    @property
    def ops(self) -> tuple[ir.Op, ...]:
        """The operators so far, in their order."""
        return tuple(self._ops.values())

    def op(self, name: str) -> ir.Op:
        """Return the operator that makes a tensor."""
        return self._ops[name]

    def parameter(self, node: Node) -> Tensor:
        """Return a parameter or buffer, or what is computed of such alone."""
        return constant(node, self.trace)

    def emit(self, op: ir.Op, size: TracedSize) -> str:
        """Add an operator; its name becomes unique, and is returned."""
        name, number = op.output, 1
        while name in self._ops:
            number += 1
            name = f'{op.output}#{number}'
        self._ops[name] = replace(op, output=name)
        self._by_size[size.symbols] = self._by_size[size.numbers] = name
        return name

    def size_of(self, node: Node) -> TracedSize:
        """Return the size of a node's tensor."""
        return TracedSize.of(node, self.trace.running_stride)

    def tensor_of_size(self, size: TracedSize) -> str | None:
        """Return a tensor of the program that has a size, None if none."""
        by_size = self._by_size
        return by_size.get(size.symbols) or by_size.get(size.numbers)

    def read(
        self, node: Node, quantizer: RoundingModule, name: str
    ) -> tuple[str, Scale]:
        """Return the codes that a layer's quantiser reads, and their scale."""
        scale = Scale.of(quantizer)
        return self.quantize(self.values[node], scale, name), scale

    def quantize(self, value: Value, scale: Scale, name: str) -> str:
        """Return the tensor of a value's codes.

        Args:
            value: In real numbers.
            scale: What the codes stand for.
            name: Of the tensor, where one has to be made.

        Raises:
            UserError: If a number does not fit its type.
        """
        if not np.isfinite(scale.step).all():
            raise UserError(f'{name}: its clip value is not finite')
        key = (value, scale.key)
        if key not in self._rounded:
            self._rounded[key] = self._quantize(value, scale, name)
        return self._rounded[key]

    def _quantize(self, value: Value, scale: Scale, name: str) -> str:
        if isinstance(value, Affine):
            return self.requantize(value, scale, name)
        if isinstance(value, Table):
            return self._look_up(value, scale, name)
        parts = zip(value.values, scale.of_parts(value), strict=True)
        return value.emit(tuple(self.quantize(*p, name) for p in parts))

    def requantize(self, value: Affine, scale: Scale, name: str) -> str:
        """Return the tensor of an affine value's codes.

        Args:
            value, scale, name: As of :meth:`quantize`.

        Raises:
            UserError: If a number does not fit its type, or if channels cut
                off at different codes.
        """
        source, grid = self.op(value.source), scale.grid
        # An activation's limits round as the values that they limit do.
        limits = [
            np.floor(np.clip(x / scale.step + scale.zero, *grid.ends) + 0.5)
            for x in (value.low, value.high)
        ]
        if any((codes != codes[0]).any() for codes in limits):
            raise UserError(
                f'{name}: an activation in front cuts off its channels at '
                'codes that differ; give it one step, act_per_channel=False'
            )
        lo, hi = (int(codes[0]) for codes in limits)
        ratio = value.scale / scale.step
        offset = value.offset / scale.step + scale.zero
        inside = lo <= source.grid.lo and source.grid.hi <= hi
        if inside and (ratio == 1).all() and (offset == 0).all():
            return value.source
        try:
            multipliers = real_multipliers(
                ratio, offset, self.fixed_point, wide=grid == ir.INT32
            )
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

    def _look_up(self, value: Table, scale: Scale, name: str) -> str:
        source, grid = self.op(value.source), scale.grid
        if len(scale.step) > 1:
            raise UserError(
                f'{name}: the activation in front has one table for all '
                'channels; give the activation 14 bits, act=dict(bits=14)'
            )
        table = np.floor(value.values / scale.step + scale.zero + 0.5)
        op = ir.Lookup(
            name,
            (value.source,),
            source.channels,
            grid,
            np.clip(table, *grid.ends).astype(np.int32),
            source.grid.lo,
        )
        return self.emit(op, value.size)

    def move(
        self,
        node: Node,
        make: MakeMovement,
        *values: Value,
        per_channel: Callable[[np.ndarray], list[np.ndarray]] | None = None,
    ) -> Movement:
        """Return the value of an operator that only moves its inputs'.

        Args:
            node: The operator.
            make: Makes the program's operator.
            *values: What it moves.
            per_channel: As of :class:`Movement`; by default every value has
                the channels of the result.
        """

        def emit(codes: tuple[str, ...]) -> str:
            sources = [self.op(name) for name in codes]
            channels = sum(x.channels for x in sources)
            grid = ir.Grid(
                min(x.grid.lo for x in sources),
                max(x.grid.hi for x in sources),
            )
            op = make(node.name, codes, channels, grid)
            return self.emit(op, self.size_of(node))

        return Movement(
            values, emit, per_channel or (lambda x: [x] * len(values))
        )

    def output(self, nodes: tuple[Node, ...], number: int) -> ir.Output:
        """Requantise all levels of one output to one scale."""
        values = []
        for node in nodes:
            value = self.values[node]
            if node in self.flat:
                raise UserError(
                    f'{source_of(node)}: an output is maps of several pixels '
                    'that were flattened; return the maps'
                )
            if not isinstance(value, Affine):
                raise UserError(
                    f'{source_of(node)}: an output is moved after its last '
                    'convolution; this is not supported'
                )
            values.append(value)
        scale = self._common_scale(values)
        whole = Scale.uniform(scale, ir.INT32)
        names = tuple(
            self.requantize(v, whole, f'output{number}.{level}')
            for level, v in enumerate(values)
        )
        return ir.Output(names, scale)

    def _common_scale(self, values: list[Affine]) -> float:
        """Return the scale of an output whose levels are some values."""
        scales = [float(np.abs(v.scale).max()) for v in values]
        # The smallest of all levels', so that none loses bits.
        scale, strongest = min(scales), max(scales)
        # A faint level loses bits where a strong one would not fit.
        reach = max(map(self._reach, values))
        if reach >= scale * ir.INT32.hi:
            scale = reach / ir.INT32.hi * (1 + ROUNDING)
        width = self.fixed_point.multiplier_bits
        if strongest >= scale * 2.0**width:
            scale = strongest / 2.0 ** (width - 1)
        return scale or 1.0  # all levels are 0 throughout

    def _reach(self, value: Affine) -> float:
        """Return a magnitude that no element of a value is beyond."""
        source = self.op(value.source)
        read = [
            np.array([self.op(name).grid.magnitude], object)
            for name in source.inputs
            if name in self._ops
        ]
        largest = source.largest(read, self.weights).astype(np.float64)
        whole = largest * np.abs(value.scale) + np.abs(value.offset)
        return min(float(whole.max()), max(abs(value.low), abs(value.high)))


def program_grid(grid: Grid) -> ir.Grid:
    """Return the range of a quantiser's codes.

    Raises:
        UserError: If the grid does not have all codes of its range.
    """
    if grid.stride != 1:
        raise UserError(
            f'a grid of the codes {grid.lo}..{grid.hi} at a distance of '
            f'{grid.stride}: expected one without gaps; a program has no '
            'other grids of activations'
        )
    return ir.Grid(grid.lo, grid.hi)


def stays_float(node: Node) -> UserError:
    """Return the error of a graph node that no rule lowers."""
    return UserError(
        f'{source_of(node)} stays float: there is no integer operator for '
        'it. Quantise it by a rule of the recipe, or take it out'
    )


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
