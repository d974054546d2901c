"""The float simulation, walked through the graph that was compiled.

It computes what the detector computes, with its parameters and gradients,
and lets the codes be seen, or replaced, at every quantiser.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import Interpreter, Node

from ..layers.activation import QuantActivation
from ..layers.add import QuantAdd
from ..layers.weighted import QuantConv2d
from .trace import ACTIVATION, ADDITION, CONVOLUTION, Trace

# Given a graph node, the index of its operand, real values and their step's
# layer, returns the values that go on.
Adjust = Callable[[Node, int, Tensor, Tensor, Any], Tensor]


def unchanged(
    node: Node, operand: int, x: Tensor, rounded: Tensor, layer: Any
) -> Tensor:
    """Let the simulation's own rounding stand."""
    return rounded


class Simulation(Interpreter):
    """Runs a captured network in float.

    Args:
        trace: The network.
        adjust: Called at every quantiser with the graph's node, the index of
            its operand, the operand before and after rounding, and the
            layer; what it returns goes on.
    """

    def __init__(self, trace: Trace, adjust: Adjust = unchanged) -> None:
        super().__init__(trace.module)
        self.layers: dict[str, Any] = dict(trace.detector.named_modules())
        self.adjust = adjust

    def run_node(self, n: Node) -> Any:
        """Run one node; quantised layers are called as what they are."""
        if n.target is CONVOLUTION:
            source, name = n.args[:2]
            layer: QuantConv2d = self.layers[str(name)]
            x = self.env[source]  # type: ignore[index]
            rounded = self.adjust(n, 0, x, layer.input_quantizer(x), layer)
            return layer._conv_forward(
                rounded, layer.quantized_weight(), layer.bias
            )
        if n.target is ADDITION:
            adder: QuantAdd = self.layers[str(n.args[2])]
            operands = [
                self.adjust(n, i, x, adder.branch(x), adder)
                for i, x in enumerate(self.env[a] for a in n.args[:2])  # type: ignore[index]
            ]
            return adder.saturated_sum(*operands)
        if n.target is ACTIVATION:
            source, name = n.args[:2]
            function: QuantActivation = self.layers[str(name)]
            x = self.env[source]  # type: ignore[index]
            rounded = self.adjust(n, 0, x, function.rounded(x), function)
            return function.function(rounded)
        if n.op == 'call_module':  # the exporter's guards on sizes
            return None
        return super().run_node(n)
