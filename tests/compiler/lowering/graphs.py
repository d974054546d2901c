"""Graphs of one layer or operator, and what the rules make of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from aqd_mmdet.compiler.builder import Builder, Scale
from aqd_mmdet.compiler.graph import LAYER, LayerCall
from aqd_mmdet.compiler.lowering import LAYER_RULES, OPERATOR_RULES
from aqd_mmdet.compiler.values import Affine, Value
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint

MAP = (1, 2, 4, 6)
CODES = ir.Grid(-127, 127)


class OneNode:
    """A graph of inputs and what reads them, as the compiler sees it.

    Args:
        shapes: Of the inputs ``x0``, ``x1``, ...; their codes -127..127 are
            of the step 1.
    """

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.graph = Graph()
        self.parameters: dict[Node, Tensor] = {}
        trace: Any = SimpleNamespace(
            tensor=self.parameters.__getitem__, running_stride=32
        )
        self.builder = Builder(trace, FixedPoint())
        self.inputs = [
            self._input(number, shape) for number, shape in enumerate(shapes)
        ]

    def _input(self, number: int, shape: tuple[int, ...]) -> Node:
        node = self.graph.placeholder(f'x{number}')
        node.meta['val'] = torch.zeros(shape)
        size = self.builder.size_of(node)
        region = ir.Region(node.name, ('image',), shape[1], CODES)
        name = self.builder.emit(region, size)
        self.builder.values[node] = Affine(name, size, np.ones(1), np.zeros(1))
        return node

    def parameter(self, values: Tensor) -> Node:
        node = self.graph.get_attr(f'p{len(self.parameters)}')
        self.parameters[node] = node.meta['val'] = values
        return node

    def lower_layer(self, layer: Any, name: str = 'layer') -> Value:
        """Return what stands for the output of a layer of all inputs."""
        shapes = [tuple(node.meta['val'].shape) for node in self.inputs]
        shape = layer.output_shape(*shapes)
        node = self.graph.call_function(LAYER, (self.inputs, name, shape))
        node.meta['val'] = torch.zeros(shape)
        call = LayerCall(node, name, tuple(self.inputs))
        value = LAYER_RULES[type(layer)](self.builder, call, layer)
        self.builder.values[node] = value
        return value

    def node(
        self, operator: Callable, *arguments: Any, **options: Any
    ) -> Node:
        """Add an operator of PyTorch; arguments are nodes or numbers."""
        node = self.graph.call_function(operator, arguments, options)
        values: Any = map_arg(arguments, lambda x: x.meta['val'])
        node.meta['val'] = operator(*values, **options)
        return node

    def lower(self, node: Node) -> Value:
        """Return what stands for the output of an operator of PyTorch."""
        value = OPERATOR_RULES[node.target](self.builder, node)
        self.builder.values[node] = value
        return value

    def codes_of(self, value: Value) -> ir.Op:
        """Return the operator that makes a value's codes on the grid of the
        inputs."""
        return self.codes_on(value, Scale.uniform(1.0, CODES))

    def codes_on(self, value: Value, scale: Scale) -> ir.Op:
        """Return the operator that makes a value's codes of a scale."""
        return self.builder.op(self.builder.quantize(value, scale, 'y'))


def start(module: nn.Module, clip: float) -> None:
    """Give a quantiser its clip value."""
    quantizer: Any = module
    quantizer.start(torch.tensor(clip))
