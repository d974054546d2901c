"""The float simulation, and what may be put in an operand's place."""

import torch
from torch import nn
from torch.fx import Graph, GraphModule

from aqd_mmdet.compiler.graph import LAYER, Trace
from aqd_mmdet.compiler.simulation import Simulation
from aqd_mmdet.layers import QuantAdd

X, Y = torch.tensor([0.6, 9.0]), torch.tensor([1.4, -1.0])


def trace() -> Trace:
    """An adder of codes 0..3 of a step of 1, and a ReLU behind it."""
    detector = nn.Module()
    detector.add = QuantAdd(bits=2)
    detector.add.start(torch.tensor(3.0))
    graph = Graph()
    x, y = graph.placeholder('x'), graph.placeholder('y')
    total = graph.call_function(LAYER, ([x, y], 'add', (2,)))
    output = graph.call_function(torch.neg, (total,))
    graph.output(output)
    return Trace(GraphModule(detector, graph), ((output,),), detector)


def test_layers_are_called_as_what_they_are():
    run = Simulation(trace(), lambda call, operand, x, rounding: rounding(x))
    assert run.run(X, Y).tolist() == [-2.0, -3.0]


def test_operands_are_adjusted_and_the_sum_is_not():
    seen = []

    def adjust(call, operand, x, rounding):
        seen.append((call.name, operand, x.tolist()))
        return rounding(x) + operand

    captured = trace()
    assert Simulation(captured, adjust).run(X, Y).tolist() == [-3.0, -3.0]
    assert seen == [('add', 0, X.tolist()), ('add', 1, Y.tolist())]
    # The layer has its own rounding again.
    assert captured.layers['add'](X, Y).tolist() == [2.0, 3.0]


def test_gradients_reach_the_operands():
    x = X.clone().requires_grad_()
    run = Simulation(trace(), lambda call, operand, x, rounding: rounding(x))
    run.run(x, Y).sum().backward()
    assert x.grad.tolist() == [-1.0, 0.0]
