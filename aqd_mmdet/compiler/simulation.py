"""The float simulation, walked through the graph that was compiled.

It computes what the detector computes, with its parameters and gradients,
and lets the codes be seen, or replaced, at every quantiser.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.fx import Interpreter, Node

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

# Given a graph node, the index of its operand, its value before and after
# rounding, and the quantiser that rounded it, returns the value that goes on.
Adjust = Callable[[Node, int, Tensor, Tensor, Any], Tensor]


def unchanged(
    node: Node, operand: int, x: Tensor, rounded: Tensor, quantizer: Any
) -> Tensor:
    """Let the simulation's own rounding stand."""
    return rounded


class Simulation(Interpreter):
    """Runs a captured network in float.

    Args:
        trace: The network.
        adjust: Called at every quantiser with the graph's node, the index of
            its operand, the operand before and after rounding, and the
            quantiser; what it returns goes on.
    """

    def __init__(self, trace: Trace, adjust: Adjust = unchanged) -> None:
        super().__init__(trace.module)
        self.layers: dict[str, Any] = dict(trace.detector.named_modules())
        self.adjust = adjust

    def run_node(self, n: Node) -> Any:
        """Run one node; quantised layers are called as what they are."""
        run = _LAYERS.get(n.target)
        if run is not None:
            name = next(a for a in n.args if isinstance(a, str))
            inputs = [self.env[a] for a in n.args if isinstance(a, Node)]
            return run(self, n, self.layers[name], *inputs)
        if n.op == 'call_module':  # the exporter's guards on sizes
            return None
        return super().run_node(n)

    def rounded(
        self, node: Node, operand: int, x: Tensor, quantizer: Any
    ) -> Tensor:
        """Return an operand as it goes on."""
        return self.adjust(node, operand, x, quantizer.rounded(x), quantizer)


def _convolve(self: Simulation, node: Node, layer: Any, x: Tensor) -> Tensor:
    x = self.rounded(node, 0, x, layer.input_quantizer)
    return layer._conv_forward(x, layer.quantized_weight(), layer.bias)


def _add(
    self: Simulation, node: Node, layer: Any, x: Tensor, y: Tensor
) -> Tensor:
    return layer.saturated_sum(
        self.rounded(node, 0, x, layer), self.rounded(node, 1, y, layer)
    )


def _activate(self: Simulation, node: Node, layer: Any, x: Tensor) -> Tensor:
    return layer.function(self.rounded(node, 0, x, layer))


def _multiply(
    self: Simulation, node: Node, layer: Any, x: Tensor, y: Tensor
) -> Tensor:
    left, right = layer.quantizers
    return self.rounded(node, 0, x, left) * self.rounded(node, 1, y, right)


def _average(self: Simulation, node: Node, layer: Any, x: Tensor) -> Tensor:
    return layer.average(self.rounded(node, 0, x, layer.input_quantizer))


def _connect(self: Simulation, node: Node, layer: Any, x: Tensor) -> Tensor:
    x = self.rounded(node, 0, x, layer.input_quantizer)
    return F.linear(x, layer.quantized_weight(), layer.bias)


def _round(self: Simulation, node: Node, layer: Any, x: Tensor) -> Tensor:
    return self.rounded(node, 0, x, layer.input_quantizer)


_LAYERS: dict[Any, Callable[..., Tensor]] = {
    CONVOLUTION: _convolve,
    ADDITION: _add,
    ACTIVATION: _activate,
    PRODUCT: _multiply,
    AVERAGE: _average,
    LINEAR: _connect,
    ROUNDING: _round,
}
