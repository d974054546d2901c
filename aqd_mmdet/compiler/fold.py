"""From the graph of a network to a program of integers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from ..errors import UserError
from ..layers.weighted import QuantLinear
from ..program import ops as ir
from ..program.fixed_point import FixedPoint
from ..quantizers.quantizer import ImageQuantizer, Quantizer
from .builder import Builder, program_grid, source_of, stays_float
from .graph import (
    Exponential,
    Trace,
    changes_another,
    exponential,
    is_constant,
    layer_call,
)
from .lowering import LAYER_RULES, OF_FLAT_MAPS, OPERATOR_RULES
from .values import Affine, Value

# Index of the network's output that holds them.
BOX_CODES = 1


@dataclass(frozen=True)
class Folded:
    """A program, and where the graph's quantisers are in it.

    Attributes:
        program: The program.
        codes: For each call of a layer in the graph, the tensors of codes
            that it reads.
        boxes_are_exponents: Whether the network ends with the exponentials
            of its box codes. The program ends with the codes; their
            exponentials belong to the decoder of boxes.
    """

    program: ir.Program
    codes: dict[Node, tuple[str, ...]]
    boxes_are_exponents: bool


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
    grid = program_grid(ImageQuantizer.grid)
    image = ir.Image('pixels', ('image',), len(mean), grid, mean)
    exponentials = _exponential_boxes(trace)
    return _fold(trace, image, 1.0, fixed_point, stride, exponentials)


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
    grid = program_grid(maps.grid).scaled(2**ir.MEAN_BITS)
    region = ir.Region('region', ('image',), channels, grid)
    step = float(maps.step) / 2**ir.MEAN_BITS
    return _fold(trace, region, step, fixed_point, 1, {})


def _exponential_boxes(trace: Trace) -> dict[Node, Exponential]:
    """Return the box codes as exponentials; none unless all levels are."""
    maps = trace.outputs[BOX_CODES : BOX_CODES + 1]
    nodes = [node for levels in maps for node in levels]
    found = {node: exponential(node, trace) for node in nodes}
    exponentials = {node: e for node, e in found.items() if e is not None}
    return exponentials if len(exponentials) == len(found) else {}


def _fold(
    trace: Trace,
    first: ir.Op,
    step: float,
    fixed_point: FixedPoint,
    stride: int,
    exponentials: Mapping[Node, Exponential],
) -> Folded:
    """Walk over a graph, whose placeholder ``first`` reads in units of
    ``step``. Of outputs that are exponentials the exponents leave the
    program."""
    builder = Builder(trace, fixed_point)
    behind = {node for e in exponentials.values() for node in e.nodes}
    for node in trace.module.graph.nodes:
        if node in behind:
            continue
        if node.op == 'placeholder':
            size = builder.size_of(node)
            name = builder.emit(first, size)
            value = Affine(name, size, np.array([step]), np.zeros(1))
            builder.values[node] = value
        elif node.op != 'call_function' or is_constant(node):
            continue  # constants are computed where they are read
        elif isinstance(node.meta.get('val'), Tensor):
            builder.values[node] = lowered = _lower(builder, node)
            schema = getattr(node.target, '_schema', None)
            if schema is not None and schema.name.endswith('_'):
                if changes_another(node):
                    raise UserError(
                        f'{source_of(node)} changes in place what is read '
                        'by another name, too; take inplace=False'
                    )
                # In place: whoever reads the operand reads the result.
                builder.values[node.args[0]] = lowered
    for node, e in exponentials.items():
        # A factor of an exponential is an addend of the exponent.
        exponent = builder.values[e.exponent]
        builder.values[node] = _plus(exponent, log(e.factor))
    outputs = tuple(
        builder.output(group, number)
        for number, group in enumerate(trace.outputs)
    )
    program = ir.Program(builder.ops, builder.weights, outputs, stride)
    return Folded(program, builder.codes, bool(exponentials))


def _need_flat(builder: Builder, node: Node, layer: Any) -> None:
    """Raise if a node, or the layer that it calls, reads flattened maps as
    if each were one number; note that its result is flat as well.

    Raises:
        UserError: Naming it.
    """
    if isinstance(layer, QuantLinear):
        return
    if layer is not None or node.target not in OF_FLAT_MAPS:
        raise UserError(
            f'{source_of(node)}: it reads maps of several pixels that were '
            'flattened; a program has linear layers, clamps and dropout '
            'there. Do it before the maps are flattened'
        )
    builder.flat.add(node)


def _plus(value: Value, addend: float) -> Value:
    if not isinstance(value, Affine):
        return value  # which no output is
    return replace(
        value,
        offset=value.offset + addend,
        low=value.low + addend,
        high=value.high + addend,
    )


def _lower(builder: Builder, node: Node) -> Value:
    call = layer_call(node)
    layer: Any = None if call is None else builder.trace.layers[call.name]
    if not builder.flat.isdisjoint(node.all_input_nodes):
        _need_flat(builder, node, layer)
    if call is not None:
        return LAYER_RULES[type(layer)](builder, call, layer)
    rule = OPERATOR_RULES.get(node.target)
    if rule is None:
        raise stays_float(node)
    return rule(builder, node)
