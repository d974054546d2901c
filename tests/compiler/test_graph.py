"""Layers in a captured graph, each one operator."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node

from aqd_mmdet.compiler.graph import (
    LAYER,
    Exponential,
    LayerCall,
    Trace,
    changes_another,
    exponential,
    is_constant,
    layer_call,
    layer_operator,
)

aten = torch.ops.aten


def test_calls_of_layers_are_told_from_others():
    graph = Graph()
    x = graph.placeholder('x')
    layer = graph.call_function(LAYER, ([x, x], 'neck.adds.0', (1, 2)))
    assert layer_call(layer) == LayerCall(layer, 'neck.adds.0', (x, x))
    assert layer_call(x) is None
    assert layer_call(graph.call_function(torch.add, (x, x))) is None


def test_a_layer_has_the_shape_that_it_is_said_to_have():
    x = torch.zeros(1, 2, device='meta')
    assert layer_operator([x], 'conv', [3, 4]).shape == (3, 4)


def test_parameters_and_layers_are_found_by_name():
    detector = nn.Sequential(nn.Conv2d(1, 2, 1))
    graph = Graph()
    node = graph.get_attr('0.weight')
    graph.output(node)
    trace = Trace(GraphModule(detector, graph), ((node,),), detector)
    assert torch.equal(trace.tensor(node), detector[0].weight)
    assert trace.layers['0'] is detector[0]


EXP, MUL = torch.ops.aten.exp.default, torch.ops.aten.mul.Tensor


NOTHING: Any = SimpleNamespace(tensor=None)


def graph_of(*calls: tuple) -> tuple[Graph, list[Node]]:
    """A graph of calls, each of the one before it and of numbers."""
    graph = Graph()
    nodes = [graph.placeholder('x')]
    for operator, *numbers in calls:
        nodes.append(graph.call_function(operator, (nodes[-1], *numbers)))
    return graph, nodes


def test_an_output_that_is_an_exponential():
    graph, (x, exp) = graph_of((EXP,))
    graph.output((exp,))
    assert exponential(exp, NOTHING) == Exponential((exp,), x, 1.0)


def test_factors_of_an_exponential():
    graph, (x, exp, twice, more) = graph_of((EXP,), (MUL, 2), (MUL, 1.5))
    graph.output((more,))
    assert exponential(more, NOTHING) == Exponential(
        (more, twice, exp), x, 3.0
    )


def scaled(first: bool = False) -> tuple[Node, ...]:
    """An exponential, times a parameter and of another type, times 2."""
    graph, (x, exp) = graph_of((EXP,))
    parameter = graph.get_attr('scale')
    pair = (parameter, exp) if first else (exp, parameter)
    product = graph.call_function(MUL, pair)
    graph.call_function(aten._assert_tensor_metadata.default, (product,))
    to = graph.call_function(aten.to.dtype, (product, torch.float32))
    to.meta['val'] = torch.zeros(1)
    twice = graph.call_function(MUL, (to, 2))
    graph.output((twice,))
    return x, exp, product, to, twice


@pytest.mark.parametrize('first', [False, True])
def test_a_factor_may_be_a_parameter(first):
    value = torch.nn.Parameter(torch.tensor([1.5]))
    trace: Any = SimpleNamespace(tensor=lambda node: value)
    x, *nodes = scaled(first)
    expected = Exponential(tuple(reversed(nodes)), x, 3.0)
    assert exponential(nodes[-1], trace) == expected


@pytest.mark.parametrize(
    'value', [torch.zeros(1), torch.tensor(-1.0), torch.ones(2)]
)
def test_parameters_that_are_no_factors(value):
    trace: Any = SimpleNamespace(tensor=lambda node: value)
    *_, output = scaled()
    assert exponential(output, trace) is None


@pytest.mark.parametrize(
    'calls',
    [
        [(EXP,), (MUL, -2)],
        [(EXP,), (MUL, 0)],
        [(EXP,), (torch.ops.aten.relu.default,)],
        [(MUL, 2)],
        [(EXP,), (torch.ops.aten.add.Tensor, 1)],
    ],
)
def test_outputs_that_are_others(calls):
    graph, nodes = graph_of(*calls)
    graph.output((nodes[-1],))
    assert exponential(nodes[-1], NOTHING) is None


def test_a_square_is_no_exponential():
    graph, (x,) = graph_of()
    square = graph.call_function(MUL, (x, x))
    graph.output((square,))
    assert exponential(square, NOTHING) is None


@pytest.mark.parametrize('read_again', [1, 2])
def test_an_exponential_that_something_else_reads(read_again):
    graph, nodes = graph_of((EXP,), (MUL, 2))
    other = graph.call_function(EXP, (nodes[read_again],))
    graph.output((nodes[-1], other))
    assert exponential(nodes[-1], NOTHING) is None


def test_an_exponential_of_a_factor_is_no_factor_of_an_exponential():
    graph, (_, twice, exp) = graph_of((MUL, 2), (EXP,))
    graph.output((exp,))
    assert exponential(exp, NOTHING) == Exponential((exp,), twice, 1.0)


@pytest.mark.parametrize(
    'views, reads_later, changes',
    [
        ((), True, False),
        ((aten.contiguous.default,), False, False),
        ((aten.contiguous.default,), True, True),
        ((aten.detach.default, aten.alias.default), True, True),
    ],
)
def test_what_is_changed_in_place(views, reads_later, changes):
    graph = Graph()
    base = view = graph.placeholder('x')
    for target in views:
        view = graph.call_function(target, (view,))
    changed = graph.call_function(aten.relu_.default, (view,))
    results = [graph.call_function(aten.relu.default, (changed,))]
    if reads_later:
        results += [graph.call_function(aten.relu.default, (base,))]
    graph.output(tuple(results))
    assert changes_another(changed) == changes


def test_what_views_read_is_changed_in_place_too():
    graph = Graph()
    base = graph.placeholder('x')
    part = graph.call_function(aten.slice.Tensor, (base, 1, 0, 4))
    changed = graph.call_function(aten.relu_.default, (base,))
    graph.output((part,))
    assert changes_another(changed)


def test_constants_are_computed_of_parameters_alone():
    graph = Graph()
    x, weight = graph.placeholder('x'), graph.get_attr('weight')
    relu = graph.call_function(aten.relu.default, (weight,))
    # As the exporter writes a tensor in a forward.
    literal = graph.call_function(aten.detach_.default, (weight,))
    assert all(map(is_constant, (weight, relu, literal)))
    others = (
        x,
        graph.call_function(aten.mul.Tensor, (x, relu)),
        graph.call_function(aten.relu_.default, (weight,)),
        graph.call_function(aten.rand_like.default, (weight,)),
        graph.call_function(LAYER, ([weight], 'conv', (1,))),
    )
    assert not any(map(is_constant, others))
