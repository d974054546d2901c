"""From the graph of a network to a program of integers."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.fx import Node

from ..errors import UserError
from ..program import ops as ir
from ..program.fixed_point import FixedPoint
from ..quantizers.quantizer import ImageQuantizer, Quantizer
from .builder import Builder, program_grid, source_of
from .graph import Trace, layer_call
from .lowering import LAYER_RULES, OPERATOR_RULES
from .values import Affine, TracedSize, Value


@dataclass(frozen=True)
class Folded:
    """A program, and where the graph's quantisers are in it.

    Attributes:
        program: The program.
        codes: For each call of a layer in the graph, the tensors of codes
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
    grid = program_grid(ImageQuantizer.grid)
    image = ir.Image('pixels', ('image',), len(mean), grid, mean)
    return _fold(trace, image, 1.0, fixed_point, stride)


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
    return _fold(trace, region, step, fixed_point, 1)


def _fold(
    trace: Trace,
    first: ir.Op,
    step: float,
    fixed_point: FixedPoint,
    stride: int,
) -> Folded:
    """Walk over a graph, whose placeholder ``first`` reads in units of
    ``step``."""
    builder = Builder(trace, fixed_point)
    for node in trace.module.graph.nodes:
        if node.op == 'placeholder':
            size = TracedSize.of(node)
            name = builder.emit(first, size)
            value = Affine(name, size, np.array([step]), np.zeros(1))
            builder.values[node] = value
        elif node.op == 'call_function' and isinstance(
            node.meta.get('val'), Tensor
        ):
            builder.values[node] = lowered = _lower(builder, node)
            schema = getattr(node.target, '_schema', None)
            if schema is not None and schema.name.endswith('_'):
                # In place: whoever reads the operand reads the result.
                builder.values[node.args[0]] = lowered
    outputs = tuple(
        builder.output(group, number)
        for number, group in enumerate(trace.outputs)
    )
    program = ir.Program(builder.ops, builder.weights, outputs, stride)
    return Folded(program, builder.codes)


def _lower(builder: Builder, node: Node) -> Value:
    call = layer_call(node)
    if call is not None:
        layer = builder.trace.layers[call.name]
        return LAYER_RULES[type(layer)](builder, call, layer)
    rule = OPERATOR_RULES.get(node.target)
    if rule is None:
        raise UserError(
            f'{source_of(node)} stays float: there is no integer operator for '
            'it. Quantise it by a rule of the recipe, or take it out'
        )
    return rule(builder, node)
