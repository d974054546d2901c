"""Operators of PyTorch between layers: norms, clamps, movements."""

import operator
import sys
from dataclasses import replace
from math import frexp, inf
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from ...errors import UserError
from ...program import ops as ir
from ..builder import Builder, source_of, stays_float
from ..graph import is_constant
from ..values import Affine, Movement, Value, clamped, pair, real
from .rules import OF_FLAT_MAPS, lowers

aten = torch.ops.aten
OF_FLAT_MAPS |= {
    *(aten.flatten.using_ints, aten.contiguous.default, aten.to.dtype),
    *(aten.detach.default, aten.alias.default, aten.clone.default),
    *(aten.dropout.default, aten.feature_dropout.default),
    *(aten.relu.default, aten.relu_.default),
    *(aten.hardtanh.default, aten.hardtanh_.default),
    *(aten.clamp.default, aten.clamp_.default),
    *(aten.clamp_min.default, aten.clamp_min_.default),
    *(aten.mul.Tensor, aten.mul_.Tensor),
}


def _arguments(node: Node) -> dict[str, Any]:
    """Return all arguments of an operator by name, with their defaults."""
    target: Any = node.target
    declared = target._schema.arguments
    values = {
        a.name: a.default_value if a.has_default_value() else None
        for a in declared
    }
    positional = zip((a.name for a in declared), node.args, strict=False)
    return values | dict(positional) | dict(node.kwargs)


@lowers(
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
)
def lower_identity(builder: Builder, node: Node) -> Value:
    return builder.values[node.args[0]]


@lowers(aten.to.dtype)
def lower_to(builder: Builder, node: Node) -> Value:
    if not node.meta['val'].is_floating_point():
        raise UserError(
            f'{source_of(node)}: what becomes {node.meta["val"].dtype} loses '
            'its fraction, which no integer operator cuts off'
        )
    return builder.values[node.args[0]]


@lowers(aten.dropout.default, aten.feature_dropout.default)
def lower_dropout(builder: Builder, node: Node) -> Value:
    if _arguments(node)['train']:
        raise UserError(
            f'{source_of(node)}: dropout in evaluation; give it '
            'training=self.training'
        )
    return builder.values[node.args[0]]


@lowers(aten.flatten.using_ints)
def lower_flatten(builder: Builder, node: Node) -> Value:
    """Each map as a row: what a linear layer reads as a window."""
    value = builder.values[node.args[0]]
    if list(node.args[1:]) != [1] or isinstance(value, Movement):
        raise UserError(
            f'{source_of(node)}: maps are flattened behind a layer, whole'
        )
    if set(value.size.numbers) != {1}:
        builder.flat.add(node)
    return value


@lowers(aten.batch_norm.default)
def lower_batch_norm(builder: Builder, node: Node) -> Affine:
    value = builder.values[node.args[0]]
    if not isinstance(value, Affine) or value.clamped:
        raise UserError(
            f'{source_of(node)}: a batch norm does not follow a convolution '
            'or an adder directly, and stays float'
        )
    arguments = _arguments(node)
    if arguments['training'] or arguments['running_mean'] is None:
        raise UserError(
            f'{source_of(node)}: a batch norm with the statistics of each '
            'batch, also in evaluation: a program has running ones '
            '(track_running_stats=True)'
        )
    mean, var = (
        real(builder.parameter(arguments[name]))
        for name in ('running_mean', 'running_var')
    )
    gamma, beta = (
        default
        if arguments[name] is None
        else real(builder.parameter(arguments[name]))
        for name, default in (('weight', 1.0), ('bias', 0.0))
    )
    scale = gamma / np.sqrt(var + float(arguments['eps']))
    return replace(
        value,
        scale=value.scale * scale,
        offset=(value.offset - mean) * scale + beta,
    )


@lowers(aten.relu.default, aten.relu_.default)
def lower_relu(builder: Builder, node: Node) -> Value:
    return clamped(builder.values[node.args[0]], 0.0, inf)


@lowers(aten.hardtanh.default, aten.hardtanh_.default)
def lower_hardtanh(builder: Builder, node: Node) -> Value:
    arguments = _arguments(node)
    low, high = float(arguments['min_val']), float(arguments['max_val'])
    return clamped(builder.values[node.args[0]], low, high)


@lowers(
    aten.clamp.default,
    aten.clamp_.default,
    aten.clamp_min.default,
    aten.clamp_min_.default,
)
def lower_clamp(builder: Builder, node: Node) -> Value:
    arguments = _arguments(node)
    low, high = arguments['min'], arguments.get('max')
    return clamped(
        builder.values[node.args[0]],
        -inf if low is None else float(low),
        inf if high is None else float(high),
    )


@lowers(aten.mul.Tensor, aten.mul_.Tensor)
def lower_mul(builder: Builder, node: Node) -> Affine:
    """Multiplication by a number, or by a parameter such as FCOS's Scale."""
    x, by = node.args
    if isinstance(x, Node) and is_constant(x):
        x, by = by, x
    value = builder.values.get(x)
    if isinstance(by, Node):
        by = builder.parameter(by) if is_constant(by) else ()
    factor = real(by)  # none, of a map
    if not isinstance(value, Affine) or factor.size != 1:
        raise UserError(
            f'{source_of(node)} stays float: only a product with one number '
            'can be folded'
        )
    k = float(factor[0])
    low, high = sorted((value.low * k, value.high * k)) if k else (0.0, 0.0)
    return replace(
        value,
        scale=value.scale * k,
        offset=value.offset * k,
        low=low,
        high=high,
    )


@lowers(aten.add.Tensor, aten.add_.Tensor)
def lower_sum_with_0(builder: Builder, node: Node) -> Value:
    """What sums in loops begin with, 0."""
    x, y = node.args[:2]
    if not isinstance(x, Node) or isinstance(y, Node) or y != 0:
        raise stays_float(node)
    return builder.values[x]


@lowers(aten.max_pool2d.default)
def lower_max_pool(builder: Builder, node: Node) -> Movement:
    arguments = _arguments(node)
    kernel, padding, dilation = (
        _two(arguments[name])
        for name in ('kernel_size', 'padding', 'dilation')
    )
    stride = _two(arguments['stride']) if arguments['stride'] else kernel
    if arguments['ceil_mode']:
        raise UserError(f'{source_of(node)}: ceil_mode=True is not supported')

    def make(
        name: str, codes: tuple[str, ...], channels: int, grid: ir.Grid
    ) -> ir.Op:
        return ir.MaxPool(
            name, codes, channels, grid, kernel, stride, padding, dilation
        )

    return builder.move(node, make, builder.values[node.args[0]])


def _two(x: Any) -> ir.Size:
    """Return one or two numbers as two."""
    numbers = list(x) if isinstance(x, (list, tuple)) else [x]
    return pair(numbers * 2 if len(numbers) == 1 else numbers)


@lowers(aten.upsample_nearest2d.vec)
def lower_upsample(builder: Builder, node: Node) -> Movement:
    factors = _arguments(node)['scale_factors']

    def make(
        name: str, codes: tuple[str, ...], channels: int, grid: ir.Grid
    ) -> ir.Op:
        like = builder.tensor_of_size(builder.size_of(node))
        if factors is not None and not all(map(_is_power_of_two, factors)):
            raise UserError(
                f'{source_of(node)}: upsampled by {factors}: a program has '
                'powers of two, or the size of another map (size=)'
            )
        if like is None:
            raise UserError(
                f'{source_of(node)}: no tensor before it has the size that it '
                'upsamples to'
            )
        return ir.Upsample(name, (*codes, like), channels, grid)

    return builder.move(node, make, builder.values[node.args[0]])


def _is_power_of_two(factor: float) -> bool:
    # Of others PyTorch's pixels depend on how it rounds 1 / factor.
    return factor >= 1 and frexp(factor)[0] == 0.5


@lowers(aten.cat.default)
def lower_cat(builder: Builder, node: Node) -> Movement:
    if _arguments(node)['dim'] not in (1, -3):
        raise UserError(f'{source_of(node)}: only channels are concatenated')
    parts: Any = node.args[0]
    counts = [int(part.meta['val'].shape[1]) for part in parts]
    ends = np.cumsum(counts)[:-1]
    return builder.move(
        node,
        ir.Concatenate,
        *(builder.values[part] for part in parts),
        per_channel=lambda x: np.split(x, ends),
    )


@lowers(aten.slice.Tensor)
def lower_slice(builder: Builder, node: Node) -> Value:
    arguments = _arguments(node)
    if any(isinstance(x, Node) for x in list(arguments.values())[1:]):
        raise UserError(
            f'{source_of(node)}: a slice whose ends are computed is not '
            'supported'
        )
    axis, first, step = (
        int(arguments['dim']),
        int(arguments['start'] or 0),
        int(arguments['step']),
    )
    x: Node = arguments['self']
    side = x.meta['val'].shape[axis]
    end = side if arguments['end'] is None else arguments['end']
    # Of a side that images have, a number is the end of some of them.
    is_any = isinstance(side, torch.SymInt)
    to_end = end is side or (end >= sys.maxsize if is_any else end >= side)
    if first < 0 and not is_any:
        first = max(first + side, 0)
    if first == 0 and to_end and step == 1:
        return builder.values[x]
    if axis == 0 or first < 0 or not (to_end or axis == 1):
        raise UserError(f'{source_of(node)}: this slice is not supported')
    if axis == 1:
        if step != 1:
            raise UserError(
                f'{source_of(node)}: channels are sliced without a step'
            )
        return _channels(builder, node, x, first)
    offset = [first if axis == a else 0 for a in (2, 3)]
    steps = [step if axis == a else 1 for a in (2, 3)]

    def make(
        name: str, codes: tuple[str, ...], channels: int, grid: ir.Grid
    ) -> ir.Op:
        return ir.Slice(
            name, codes, channels, grid, 0, pair(offset), pair(steps)
        )

    return builder.move(node, make, builder.values[x])


def _channels(builder: Builder, node: Node, x: Node, first: int) -> Movement:
    """Return the channels of ``x`` that a node takes, from a first one."""
    count = int(node.meta['val'].shape[1])
    behind = int(x.meta['val'].shape[1]) - first - count

    def make(
        name: str, codes: tuple[str, ...], channels: int, grid: ir.Grid
    ) -> ir.Op:
        return ir.Slice(name, codes, count, grid, first, (0, 0), (1, 1))

    return builder.move(
        node,
        make,
        builder.values[x],
        # What the other channels are rounded to does not matter.
        per_channel=lambda values: [np.pad(values, (first, behind), 'edge')],
    )


_SPLITS = (
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
)


@lowers(operator.getitem)
def lower_split(builder: Builder, node: Node) -> Movement:
    """One part of a tensor that was split along its channels."""
    parent, index = node.args
    assert isinstance(parent, Node) and isinstance(index, int)
    if parent.target not in _SPLITS or _arguments(parent)['dim'] != 1:
        raise UserError(
            f'{source_of(node)} stays float: it takes a part of '
            f'{parent.target}, for which there is no integer operator'
        )
    first = sum(int(part.shape[1]) for part in parent.meta['val'][:index])
    (x,) = (a for a in parent.args[:1] if isinstance(a, Node))
    return _channels(builder, node, x, first)
