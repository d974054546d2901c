"""The float simulation, walked through the graph that was compiled.

It computes what the detector computes, with its parameters and gradients,
and lets the codes be seen, or replaced, at every quantiser.
"""

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

from torch import Tensor
from torch.fx import Interpreter, Node

from ..patches import patched
from ..quantizers.quantizer import Rounding, RoundingModule, WeightQuantizer
from .graph import LayerCall, Trace, layer_call

# Given the call of a layer, the index of an operand, its value and what
# rounds it, returns the value that goes on.
Adjust = Callable[[LayerCall, int, Tensor, Rounding], Tensor]


class Simulation(Interpreter):
    """Runs a captured network in float.

    Args:
        trace: The network.
        adjust: Called at the rounding of each operand of each layer.
    """

    def __init__(self, trace: Trace, adjust: Adjust) -> None:
        super().__init__(trace.module)
        self.layers = trace.layers
        self.adjust = adjust

    def run_node(self, n: Node) -> Any:
        """Run one node; quantised layers are called as what they are."""
        call = layer_call(n)
        if call is not None:
            return self._run_layer(call)
        if n.op == 'call_module':  # the exporter's guards on sizes
            return None
        return super().run_node(n)

    def _run_layer(self, call: LayerCall) -> Tensor:
        layer, operands = self.layers[call.name], count()

        def hook(x: Tensor, rounding: Rounding) -> Tensor:
            # Operands come in their order, before the sum of an adder.
            operand = next(operands)
            if operand >= len(call.inputs):
                return rounding(x)
            return self.adjust(call, operand, x, rounding)

        with ExitStack() as stack:
            for module in layer.modules():
                if isinstance(module, RoundingModule) and not isinstance(
                    module, WeightQuantizer
                ):
                    stack.enter_context(patched(module, hook=hook))
            return layer(*(self.env[node] for node in call.inputs))
