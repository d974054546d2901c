"""Layers in a captured graph, each one operator."""

import torch
from torch import nn
from torch.fx import Graph, GraphModule

from aqd_mmdet.compiler.graph import (
    LAYER,
    LayerCall,
    Trace,
    layer_call,
    layer_operator,
)


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
