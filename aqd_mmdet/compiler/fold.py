"""From the graph of a network to a program of integers.

Between two quantisers a network is affine in each channel, cut off by
activations: an accumulator's real value, its batch norm, a ReLU. The walk
over the graph keeps such values as formulas over tensors of the program, and
where a quantiser reads one, the formula becomes one requantisation.
Operators that only move values (pooling, upsampling, slices) wait for the
quantiser too: rounding commutes with them.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ..errors import UserError
from ..layers.activation import QuantActivation
from ..layers.add import QuantAdd
from ..layers.weighted import QuantConv2d, QuantLinear
from ..program import ops as ir
from ..program.fixed_point import FixedPoint, real_multipliers
from ..quantizers.quantizer import ImageQuantizer, Quantizer
from .trace import (
    ACTIVATION,
    ADDITION,
    AVERAGE,
    CONVOLUTION,
    LINEAR,
    PRODUCT,
    ROUNDING,
    Trace,
)

aten = torch.ops.aten


@dataclass(frozen=True)
class Size:
    """Height and width in the captured graph.

    Attributes:
        symbols: As expressions of the image's.
        traced: Their values when the graph was captured.
    """

    symbols: str
    traced: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Affine:
    """``clamp(source * scale + offset, low, high)``, in real numbers.

    Attributes:
        source: Tensor of the program.
        size: Its height and width.
        scale: float64 (C,) or (1,).
        offset: float64 (C,) or (1,).
        low: What activations cut off below.
        high: What they cut off above.
    """

    source: str
    size: Size
    scale: np.ndarray
    offset: np.ndarray
    low: float = -inf
    high: float = inf

    @property
    def clamped(self) -> bool:
        """Whether an activation has been applied."""
        return self.low > -inf or self.high < inf


@dataclass(frozen=True, eq=False)
class Table:
    """A function of one code.

    Attributes:
        source: Tensor of the program.
        size: Its height and width.
        values: float64, the real value of each of the source's codes.
    """

    source: str
    size: Size
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Moved:
    """A value whose elements are those of others, elsewhere.

    Attributes:
        values: What is moved.
        emit: Adds the operator to the program, given the tensors of codes;
            returns its output.
    """

    values: tuple['Value', ...]
    emit: Callable[[tuple[str, ...], ir.Grid], str]


Value = Affine | Table | Moved


@dataclass(frozen=True)
class Folded:
    """A program, and where the graph's quantisers are in it.

    Attributes:
        program: The program.
        codes: For each quantised operator of the graph, the tensors of codes
            that it reads.
    """

    program: ir.Program
    codes: dict[Node, tuple[str, ...]]


def fold(
    trace: Trace, mean: tuple[int, ...], stride: int, fixed_point: FixedPoint
) -> Folded:
    """Turn a captured network into a program.

    Args:
        trace: The network; its weights are read now, so that a trained step
            later it can be folded again.
        mean: What is subtracted from the image's channels.
        stride: What the image's sides are padded to a multiple of.
        fixed_point: Width of the multipliers.

    Raises:
        UserError: If an operator would stay float, naming it, its module and
            its line of source; or if a layer's numbers do not fit.
    """
    grid = ImageQuantizer.grid
    image = ir.Image(
        'pixels', ('image',), len(mean), ir.Grid(grid.lo, grid.hi), mean
    )
    return _Folder(trace, image, 1.0, fixed_point).run(stride)


def fold_regions(
    trace: Trace, channels: int, maps: Quantizer, fixed_point: FixedPoint
) -> Folded:
    """Turn a captured head of regions into a program.

    Args:
        trace: The head.
        channels: Of a region.
        maps: Rounds the maps that regions are read from.
        fixed_point: Width of the multipliers.

    Raises:
        UserError: As :func:`fold`.
    """
    low, high = (end << ir.MEAN_BITS for end in (maps.grid.lo, maps.grid.hi))
    region = ir.Region('region', ('image',), channels, ir.Grid(low, high))
    step = float(maps.step) / 2**ir.MEAN_BITS
    return _Folder(trace, region, step, fixed_point).run(1)


def where(node: Node) -> str:
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


class _Folder:
    """The state of one walk over a graph."""

    def __init__(
        self, trace: Trace, first: ir.Op, step: float, fixed_point: FixedPoint
    ) -> None:
        self.trace = trace
        self.first = first
        self.step = step
        self.fixed_point = fixed_point
        self.layers: dict[str, Any] = dict(trace.detector.named_modules())
        self.ops: list[ir.Op] = []
        self.by_name: dict[str, ir.Op] = {}
        self.weights: dict[str, ir.Weights] = {}
        self.values: dict[Any, Any] = {}
        self.codes: dict[Node, tuple[str, ...]] = {}
        self.rounded: dict[tuple, str] = {}
        # The last tensor of each size, for upsampling to it; sizes that are
        # written in several ways are told by their values.
        self.of_size: dict[str | tuple[int, int], str] = {}

    def run(self, stride: int) -> Folded:
        for node in self.trace.module.graph.nodes:
            if node.op == 'placeholder':
                size = _size(node)
                self.values[node] = Affine(
                    self.emit(self.first, size),
                    size,
                    np.array([self.step]),
                    np.zeros(1),
                )
            elif node.op == 'call_function' and isinstance(
                node.meta.get('val'), Tensor
            ):
                handler = _HANDLERS.get(node.target)
                if handler is None:
                    raise UserError(
                        f'{where(node)} stays float: there is no integer '
                        'operator for it. Quantise it by a rule of the '
                        'recipe, or take it out'
                    )
                value = handler(self, node)
                self.values[node] = value
                schema = getattr(node.target, '_schema', None)
                if schema is not None and schema.name.endswith('_'):
                    # In place: whoever reads the operand reads the result.
                    self.values[node.args[0]] = value
        outputs = tuple(
            self.output(group, number)
            for number, group in enumerate(self.trace.outputs)
        )
        program = ir.Program(tuple(self.ops), self.weights, outputs, stride)
        return Folded(program, self.codes)

    # Adding operators.

    def emit(self, op: ir.Op, size: Size) -> str:
        """Add an operator; its name becomes unique."""
        name, number = op.output, 1
        while name in self.by_name:
            number += 1
            name = f'{op.output}#{number}'
        op = replace(op, output=name)
        self.ops.append(op)
        self.by_name[name] = op
        self.of_size[size.symbols] = self.of_size[size.traced] = name
        return name

    def output(self, nodes: tuple[Node, ...], number: int) -> ir.Output:
        """Requantise all levels of one output to one scale."""
        values = []
        for node in nodes:
            value = self.values[node]
            if not isinstance(value, Affine):
                raise UserError(
                    f'{where(node)}: an output is moved after its last '
                    'convolution; this is not supported'
                )
            values.append(value)
        # The finest level's, so that none loses bits to a coarser one.
        scale = min(float(np.abs(v.scale).max()) for v in values)
        names = tuple(
            self.requantize(v, scale, ir.INT32, f'output{number}.{level}')
            for level, v in enumerate(values)
        )
        return ir.Output(names, scale)

    # From real values to codes.

    def quantize(
        self, value: Value, step: float, grid: ir.Grid, name: str
    ) -> str:
        """Return the tensor of a value's codes on a grid."""
        if not np.isfinite(step):
            raise UserError(f'{name}: its clip value is not finite')
        # The same value on the same grid is rounded once.
        key = (value, step, grid)
        if key not in self.rounded:
            if isinstance(value, Affine):
                codes = self.requantize(value, step, grid, name)
            elif isinstance(value, Table):
                codes = self.look_up(value, step, grid, name)
            else:
                codes = value.emit(
                    tuple(
                        self.quantize(v, step, grid, name)
                        for v in value.values
                    ),
                    grid,
                )
            self.rounded[key] = codes
        return self.rounded[key]

    def read(
        self, source: Any, quantizer: Any, name: str
    ) -> tuple[str, float]:
        """Return the codes that a layer's quantiser reads, and their step."""
        grid = ir.Grid(quantizer.grid.lo, quantizer.grid.hi)
        step = float(quantizer.step)
        return self.quantize(self.values[source], step, grid, name), step

    def requantize(
        self, value: Affine, step: float, grid: ir.Grid, name: str
    ) -> str:
        source = self.by_name[value.source]
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

    def look_up(
        self, value: Table, step: float, grid: ir.Grid, name: str
    ) -> str:
        source = self.by_name[value.source]
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

    def move(
        self, node: Node, make: Callable[..., ir.Op], *values: Value
    ) -> Moved:
        """Return the value of an operator that only moves its inputs'.

        Args:
            node: The operator.
            make: Returns the program's operator, given the name of its
                output, the tensors of codes, their channels and their grid.
            *values: What it moves.
        """

        def emit(codes: tuple[str, ...], grid: ir.Grid) -> str:
            channels = sum(self.by_name[name].channels for name in codes)
            low = min(self.by_name[name].grid.lo for name in codes)
            high = max(self.by_name[name].grid.hi for name in codes)
            op = make(node.name, codes, channels, ir.Grid(low, high))
            return self.emit(op, _size(node))

        return Moved(values, emit)


def _size(node: Node) -> Size:
    shape = node.meta['val'].shape
    height, width = shape[2:] if len(shape) > 2 else (1, 1)
    # Of a symbol, the value that it had; of a number, itself.
    traced = [
        n.node.hint if isinstance(n, torch.SymInt) else n
        for n in (height, width)
    ]
    return Size(f'{height} x {width}', _pair(traced))


def _round(x: float) -> int:
    return int(np.floor(x + 0.5))


def _real(x: Any) -> np.ndarray:
    """Return a step, parameter or number as float64 of one dimension."""
    if isinstance(x, Tensor):
        x = x.detach().double().cpu().numpy()
    return np.asarray(x, np.float64).reshape(-1)


def _convolution(self: _Folder, node: Node) -> Affine:
    layer: QuantConv2d = self.layers[str(node.args[1])]
    return _weighted(
        self,
        node,
        _pair(layer.kernel_size),
        _pair(layer.stride),
        _pair(layer.padding),
        _pair(layer.dilation),
        layer.groups,
    )


def _linear(self: _Folder, node: Node) -> Affine:
    """A convolution with a window as large as the map."""
    kernel = self.values[node.args[0]].size.traced
    return _weighted(self, node, kernel, (1, 1), (0, 0), (1, 1), 1)


def _weighted(
    self: _Folder,
    node: Node,
    kernel: ir.Size,
    stride: ir.Size,
    padding: ir.Size,
    dilation: ir.Size,
    groups: int,
) -> Affine:
    source, name = node.args[:2]
    layer: QuantConv2d | QuantLinear = self.layers[str(name)]
    codes, step = self.read(source, layer.input_quantizer, f'{name}.in')
    self.codes[node] = (codes,)
    weights = layer.weight_quantizer
    per_group = self.by_name[codes].channels // groups
    if not torch.isfinite(layer.weight).all():
        raise UserError(f'{name}: a weight is not finite')
    shaped = layer.weight_codes().reshape(-1, per_group, *kernel)
    self.weights[str(name)] = ir.Weights.of(
        shaped.cpu().numpy().astype(np.int8), weights.grid.bits
    )
    op = ir.Convolution(
        str(name),
        (codes,),
        len(shaped),
        ir.INT32,
        kernel,
        stride,
        padding,
        dilation,
        str(name),
        groups,
    )
    offset = np.zeros(1) if layer.bias is None else _real(layer.bias)
    size = _size(node)
    return Affine(
        self.emit(op, size), size, step * _real(weights.step), offset
    )


def _pair(x: Any) -> ir.Size:
    first, second = x
    return int(first), int(second)


def _node(x: Any) -> Node:
    assert isinstance(x, Node)
    return x


def _addition(self: _Folder, node: Node) -> Affine:
    name = str(node.args[2])
    adder: QuantAdd = self.layers[name]
    step = float(adder.step)
    wide = adder.branch_grid()
    branch = ir.Grid(wide.lo, wide.hi)
    x, y = (_node(arg) for arg in node.args[:2])
    codes = (
        self.quantize(self.values[x], step, branch, f'{name}.x'),
        self.quantize(self.values[y], step, branch, f'{name}.y'),
    )
    self.codes[node] = codes
    op = ir.Add(
        name,
        codes,
        self.by_name[codes[0]].channels,
        ir.Grid(adder.grid.lo, adder.grid.hi),
    )
    size = _size(node)
    return Affine(self.emit(op, size), size, np.array([step]), np.zeros(1))


def _activation(self: _Folder, node: Node) -> Table:
    source, name = node.args[:2]
    layer: QuantActivation = self.layers[str(name)]
    codes, step = self.read(source, layer, f'{name}.in')
    self.codes[node] = (codes,)
    # Not the layer's grid: a ReLU in front may have left fewer codes.
    grid = self.by_name[codes].grid
    x = torch.arange(grid.lo, grid.hi + 1, dtype=torch.float64) * step
    with torch.no_grad():
        values = layer.function(x).numpy()
    return Table(codes, _size(node), values)


def _product(self: _Folder, node: Node) -> Affine:
    x, y = (_node(arg) for arg in node.args[:2])
    name = str(node.args[2])
    left, right = self.layers[name].quantizers
    operands = (
        self.read(x, left, f'{name}.x'),
        self.read(y, right, f'{name}.y'),
    )
    self.codes[node] = (operands[0][0], operands[1][0])
    ends = [
        p * q
        for p in _ends(self.by_name[operands[0][0]].grid)
        for q in _ends(self.by_name[operands[1][0]].grid)
    ]
    inputs = [codes for codes, _ in operands]
    if x.meta['val'].shape[2:] == (1, 1):
        inputs.reverse()
    op = ir.Multiply(
        name,
        (inputs[0], inputs[1]),
        self.by_name[inputs[0]].channels,
        ir.Grid(min(ends), max(ends)),
    )
    size = _size(node)
    scale = np.array([operands[0][1] * operands[1][1]])
    return Affine(self.emit(op, size), size, scale, np.zeros(1))


def _ends(grid: ir.Grid) -> tuple[int, int]:
    return grid.lo, grid.hi


def _average(self: _Folder, node: Node) -> Affine:
    source, name, sizes = node.args
    layer: Any = self.layers[str(name)]
    codes, step = self.read(source, layer.input_quantizer, f'{name}.in')
    self.codes[node] = (codes,)
    channels = self.by_name[codes].channels
    size = _size(node)
    op: ir.Op
    if not sizes:
        low, high = (
            end << ir.MEAN_BITS for end in _ends(self.by_name[codes].grid)
        )
        op = ir.Mean(str(name), (codes,), channels, ir.Grid(low, high))
        scale = step / 2**ir.MEAN_BITS
    else:
        # A convolution of ones, channel by channel.
        kernel = _pair(layer.kernel_size)
        ones = np.ones((channels, 1, *kernel), np.int8)
        self.weights[str(name)] = ir.Weights.of(ones, 8)
        op = ir.Convolution(
            str(name),
            (codes,),
            channels,
            ir.INT32,
            kernel,
            _pair(layer.stride),
            _pair(layer.padding),
            (1, 1),
            str(name),
            channels,
        )
        scale = step / (kernel[0] * kernel[1])
    return Affine(self.emit(op, size), size, np.array([scale]), np.zeros(1))


def _rounding(self: _Folder, node: Node) -> Affine:
    """Codes that leave the program, for regions to be read from."""
    source, name = node.args[:2]
    codes, step = self.read(
        source, self.layers[str(name)].input_quantizer, f'{name}.in'
    )
    self.codes[node] = (codes,)
    return Affine(codes, _size(node), np.array([step]), np.zeros(1))


def _flatten(self: _Folder, node: Node) -> Value:
    """Each map as a row: what a linear layer reads as a window."""
    value = self.values[node.args[0]]
    if list(node.args[1:]) != [1] or isinstance(value, Moved):
        raise UserError(
            f'{where(node)}: maps are flattened behind a layer, whole'
        )
    return value


def _affine(self: _Folder, node: Node, what: str) -> Affine:
    value = self.values[node.args[0]]
    if not isinstance(value, Affine) or value.clamped:
        raise UserError(
            f'{where(node)}: {what} does not follow a convolution or an '
            'adder directly, and stays float'
        )
    return value


def _batch_norm(self: _Folder, node: Node) -> Affine:
    value = _affine(self, node, 'a batch norm')
    mean, var = (_real(self.trace.tensor(_node(a))) for a in node.args[3:5])
    gamma, beta = (
        default if arg is None else _real(self.trace.tensor(_node(arg)))
        for arg, default in zip(node.args[1:3], (1.0, 0.0), strict=True)
    )
    scale = gamma / np.sqrt(var + float(node.args[7]))  # type: ignore[arg-type]
    return replace(
        value,
        scale=value.scale * scale,
        offset=(value.offset - mean) * scale + beta,
    )


def _clamp(
    self: _Folder, node: Node, low: float = -inf, high: float = inf
) -> Value:
    return _clamped(self.values[node.args[0]], low, high)


def _clamped(value: Value, low: float, high: float) -> Value:
    if isinstance(value, Moved):
        inner = tuple(_clamped(v, low, high) for v in value.values)
        return Moved(inner, value.emit)
    if isinstance(value, Table):
        return replace(value, values=np.clip(value.values, low, high))
    new_low, new_high = (
        min(max(x, low), high) for x in (value.low, value.high)
    )
    return replace(value, low=new_low, high=new_high)


def _relu(self: _Folder, node: Node) -> Value:
    return _clamp(self, node, low=0.0)


def _hardtanh(self: _Folder, node: Node) -> Value:
    low, high = [*node.args[1:], -1.0, 1.0][:2] if node.args[1:] else (-1, 1)
    return _clamp(self, node, float(low), float(high))  # type: ignore[arg-type]


def _clamp_min(self: _Folder, node: Node) -> Value:
    limits = [-inf if x is None else x for x in node.args[1:2]]
    limits += [inf if x is None else x for x in node.args[2:3]]
    return _clamp(self, node, *limits)  # type: ignore[arg-type]


def _scaled(self: _Folder, node: Node) -> Affine:
    """Multiplication by a number, or by a parameter such as FCOS's Scale."""
    value = self.values.get(node.args[0])
    by = node.args[1]
    factor = _real(self.trace.tensor(by) if isinstance(by, Node) else by)
    if not isinstance(value, Affine) or factor.size != 1:
        raise UserError(
            f'{where(node)} stays float: only a product with one number can '
            'be folded'
        )
    k = float(factor[0])
    low, high = sorted((value.low * k, value.high * k)) if k else (0.0, 0.0)
    return replace(
        value, scale=value.scale * k, offset=value.offset * k, low=low,
        high=high,
    )  # fmt: skip


def _max_pool(self: _Folder, node: Node) -> Moved:
    args = [*node.args, *[None] * 6][:6]
    kernel = _two(args[1])
    stride = _two(args[2]) if args[2] else kernel
    padding, dilation = _two(args[3] or 0), _two(args[4] or 1)
    if args[5]:
        raise UserError(f'{where(node)}: ceil_mode=True is not supported')

    def make(name: str, codes: Any, channels: int, grid: ir.Grid) -> ir.Op:
        return ir.MaxPool(
            name, codes, channels, grid, kernel, stride, padding, dilation
        )

    return self.move(node, make, self.values[node.args[0]])


def _two(x: Any) -> ir.Size:
    return _pair(x if isinstance(x, (list, tuple)) and len(x) == 2 else [
        x[0] if isinstance(x, (list, tuple)) else x
    ] * 2)  # fmt: skip


def _upsample(self: _Folder, node: Node) -> Moved:
    def make(name: str, codes: Any, channels: int, grid: ir.Grid) -> ir.Op:
        size = _size(node)
        like = self.of_size.get(size.symbols) or self.of_size.get(size.traced)
        if like is None:
            raise UserError(
                f'{where(node)}: no tensor before it has the size that it '
                'upsamples to'
            )
        return ir.Upsample(name, (*codes, like), channels, grid)

    return self.move(node, make, self.values[node.args[0]])


def _concatenate(self: _Folder, node: Node) -> Moved:
    if node.args[1:] not in ((1,), (-3,)):
        raise UserError(f'{where(node)}: only channels are concatenated')

    def make(name: str, codes: Any, channels: int, grid: ir.Grid) -> ir.Op:
        return ir.Concatenate(name, codes, channels, grid)

    parts: Any = node.args[0]
    return self.move(node, make, *(self.values[p] for p in parts))


def _slice(self: _Folder, node: Node) -> Value:
    axis, start, stop, step = [*node.args[1:], *[None] * 4][:4]
    axis, first = int(axis or 0), int(start or 0)  # type: ignore[arg-type]
    shape = _node(node.args[0]).meta['val'].shape
    end = shape[axis] if stop is None else stop
    whole = isinstance(end, torch.SymInt) or end >= shape[axis]
    by = int(step or 1)  # type: ignore[arg-type]
    if first == 0 and whole and by == 1:
        return self.values[node.args[0]]
    count = int(node.meta['val'].shape[1])
    offset = [first if axis == a else 0 for a in (2, 3)]
    steps = [by if axis == a else 1 for a in (2, 3)]
    if axis == 0 or first < 0 or not (whole or axis == 1):
        raise UserError(f'{where(node)}: this slice is not supported')
    if axis == 1 and by != 1:
        raise UserError(f'{where(node)}: channels are sliced without a step')

    def make(name: str, codes: Any, channels: int, grid: ir.Grid) -> ir.Op:
        at = first if axis == 1 else 0
        return ir.Slice(
            name, codes, count, grid, at, _pair(offset), _pair(steps)
        )

    return self.move(node, make, self.values[node.args[0]])


def _part(self: _Folder, node: Node) -> Value:
    """One part of a tensor that was split along its channels."""
    parent = _node(node.args[0])
    axis = dict(enumerate(parent.args)).get(2, 0)
    if parent.target not in _SPLITS or axis != 1:
        raise UserError(
            f'{where(node)} stays float: it takes a part of '
            f'{parent.target}, for which there is no integer operator'
        )
    parts = parent.meta['val']
    index = int(node.args[1])  # type: ignore[arg-type]
    first = sum(int(part.shape[1]) for part in parts[:index])
    count = int(parts[index].shape[1])

    def make(name: str, codes: Any, channels: int, grid: ir.Grid) -> ir.Op:
        return ir.Slice(name, codes, count, grid, first, (0, 0), (1, 1))

    return self.move(node, make, self.values[parent.args[0]])


_SPLITS = (
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
)


def _same(self: _Folder, node: Node) -> Value:
    return self.values[node.args[0]]


_HANDLERS: dict[Any, Callable[[_Folder, Node], Value]] = {
    CONVOLUTION: _convolution,
    ADDITION: _addition,
    ACTIVATION: _activation,
    PRODUCT: _product,
    AVERAGE: _average,
    LINEAR: _linear,
    ROUNDING: _rounding,
    aten.flatten.using_ints: _flatten,
    aten.batch_norm.default: _batch_norm,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.hardtanh.default: _hardtanh,
    aten.hardtanh_.default: _hardtanh,
    aten.clamp.default: _clamp_min,
    aten.clamp_.default: _clamp_min,
    aten.clamp_min.default: _clamp_min,
    aten.clamp_min_.default: _clamp_min,
    aten.mul.Tensor: _scaled,
    aten.mul_.Tensor: _scaled,
    aten.max_pool2d.default: _max_pool,
    aten.upsample_nearest2d.vec: _upsample,
    aten.cat.default: _concatenate,
    aten.slice.Tensor: _slice,
    operator.getitem: _part,
    aten.contiguous.default: _same,
    aten.to.dtype: _same,
    aten.detach.default: _same,
    aten.alias.default: _same,
    aten.dropout.default: _same,
}
