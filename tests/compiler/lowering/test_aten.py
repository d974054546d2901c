"""Operators of PyTorch between layers: formulas and movements."""

import operator

import pytest
import torch

from aqd_mmdet.compiler.values import clamped
from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from tests.compiler.lowering.graphs import CODES, MAP, OneNode

aten = torch.ops.aten


@pytest.fixture
def graph() -> OneNode:
    return OneNode(MAP)


@pytest.mark.parametrize(
    'target, limits, expected',
    [
        (aten.relu.default, (), (0.0, float('inf'))),
        (aten.hardtanh.default, (), (-1.0, 1.0)),
        (aten.hardtanh.default, (0.0, 6.0), (0.0, 6.0)),
        (aten.clamp.default, (None, 3), (-float('inf'), 3.0)),
        (aten.clamp_min.default, (2,), (2.0, float('inf'))),
    ],
)
def test_clamps(graph, target, limits, expected):
    value = graph.lower(graph.node(target, *graph.inputs, *limits))
    assert (value.low, value.high) == expected


def test_identities(graph):
    (x,) = graph.inputs
    for node in (
        graph.node(aten.detach.default, x),
        graph.node(aten.clone.default, x),
        graph.node(aten.slice.Tensor, x, 1, -2, 2**63 - 1),
        graph.node(aten.dropout.default, x, 0.5, False),
        graph.node(aten.feature_dropout.default, x, 0.5, False),
        graph.node(aten.flatten.using_ints, x, 1),
        graph.node(aten.slice.Tensor, x, 2, 0, 2**63 - 1),
    ):
        assert graph.lower(node) is graph.builder.values[x]


def test_numbers_without_fractions_are_refused(graph):
    node = graph.node(aten.to.dtype, *graph.inputs, torch.int32)
    with pytest.raises(UserError, match='becomes torch.int32 loses its fr'):
        graph.lower(node)


def test_dropout_in_evaluation_is_refused(graph):
    node = graph.node(aten.dropout.default, *graph.inputs, 0.5, True)
    with pytest.raises(UserError, match='dropout in evaluation'):
        graph.lower(node)


def test_products_of_maps_are_refused(graph):
    (x,) = graph.inputs
    by = graph.node(aten.relu.default, x)
    graph.lower(by)
    with pytest.raises(UserError, match='only a product with one number'):
        graph.lower(graph.node(aten.mul.Tensor, x, by))


def test_slices_up_to_a_computed_end_are_refused(graph):
    (x,) = graph.inputs
    node = graph.graph.call_function(aten.slice.Tensor, (x, 2, 0, x))
    node.meta['val'] = x.meta['val']
    with pytest.raises(UserError, match='ends are computed'):
        graph.lower(node)


def batch_norm(graph: OneNode, training: bool = False):
    mean, var, gamma, beta = (
        graph.parameter(torch.tensor([value, value]))
        for value in (1.0, 3.0, 4.0, 5.0)
    )
    return graph.node(
        aten.batch_norm.default, *graph.inputs, gamma, beta, mean, var,
        training, 0.1, 1.0, False,
    )  # fmt: skip


def test_batch_norms_without_running_statistics_are_refused(graph):
    node = graph.node(
        aten.batch_norm.default, *graph.inputs, None, None, None, None,
        True, 0.1, 1.0, False,
    )  # fmt: skip
    for each in (node, batch_norm(graph, training=True)):
        with pytest.raises(UserError, match='the statistics of each batch'):
            graph.lower(each)


def test_batch_norm_is_folded(graph):
    value = graph.lower(batch_norm(graph))
    # 4 (x - 1) / sqrt(3 + 1) + 5
    assert value.scale.tolist() == [2.0, 2.0]
    assert value.offset.tolist() == [3.0, 3.0]


def test_batch_norm_behind_an_activation_is_refused(graph):
    (x,), values = graph.inputs, graph.builder.values
    values[x] = clamped(values[x], 0.0, 6.0)
    with pytest.raises(UserError, match='does not follow a convolution'):
        graph.lower(batch_norm(graph))


@pytest.mark.parametrize(
    'factor, limits', [(2.0, (0.0, 12.0)), (-0.5, (-3.0, 0.0)), (0, (0, 0))]
)
def test_products_with_a_number_turn_limits(graph, factor, limits):
    (x,), values = graph.inputs, graph.builder.values
    values[x] = clamped(values[x], 0.0, 6.0)
    value = graph.lower(graph.node(aten.mul.Tensor, x, factor))
    assert value.scale.tolist() == [factor]
    assert (value.low, value.high) == limits


def test_factors_may_come_first(graph):
    by = graph.parameter(torch.tensor([-0.5]))
    value = graph.lower(graph.node(aten.mul.Tensor, by, *graph.inputs))
    assert value.scale.tolist() == [-0.5]


def test_factors_are_computed_of_parameters(graph):
    # As BiFPN's weights: relu(w)[1] / (relu(w).sum() + 1).
    weights = graph.parameter(torch.tensor([-9.0, 3.0]))
    positive = graph.node(aten.relu.default, weights)
    total = graph.node(aten.sum.default, positive)
    part = graph.node(aten.select.int, positive, 0, 1)
    above = graph.node(aten.add.Tensor, total, 1)
    by = graph.node(aten.div.Tensor, part, above)
    value = graph.lower(graph.node(aten.mul.Tensor, *graph.inputs, by))
    assert value.scale.tolist() == [0.75]
    # A later folding reads the weights as they are then.
    graph.parameters[weights] = torch.tensor([0.0, 1.0])
    value = graph.lower(graph.node(aten.mul.Tensor, *graph.inputs, by))
    assert value.scale.tolist() == [0.5]


def test_parameters_that_are_read_as_maps_are_refused(graph):
    extra = graph.parameter(torch.ones(1, 2, 4, 6))
    node = graph.node(aten.cat.default, [*graph.inputs, extra], 1)
    with pytest.raises(UserError, match='cat.* it reads p0, which is comput'):
        graph.lower(node)


def test_products_with_several_numbers_are_refused(graph):
    by = graph.parameter(torch.ones(2, 1, 1))
    node = graph.node(aten.mul.Tensor, *graph.inputs, by)
    with pytest.raises(UserError, match='only a product with one number'):
        graph.lower(node)


def test_a_sum_with_0_is_its_map(graph):
    (x,) = graph.inputs
    node = graph.node(aten.add.Tensor, x, 0)
    assert graph.lower(node) is graph.builder.values[x]
    for by in (1, x):
        with pytest.raises(UserError, match=r'aten\.add\.Tensor stays float'):
            graph.lower(graph.node(aten.add.Tensor, x, by))


def test_max_pool(graph):
    node = graph.node(
        aten.max_pool2d.default, *graph.inputs, [3], [2, 1], [1, 1]
    )
    assert graph.codes_of(graph.lower(node)) == ir.MaxPool(
        'max_pool2d_default', ('x0',), 2, CODES, (3, 3), (2, 1), (1, 1),
        (1, 1),
    )  # fmt: skip
    # Without a stride it is the kernel's.
    node = graph.node(aten.max_pool2d.default, *graph.inputs, [2, 3])
    assert graph.codes_of(graph.lower(node)).stride == (2, 3)


def test_max_pool_by_ceiling_is_refused(graph):
    node = graph.node(
        aten.max_pool2d.default, *graph.inputs, [2], [2], [0], [1], True
    )
    with pytest.raises(UserError, match='ceil_mode=True is not supported'):
        graph.lower(node)


def test_upsampling_is_to_a_tensor_of_its_size():
    graph = OneNode(MAP, (1, 3, 8, 12))
    node = graph.node(
        aten.upsample_nearest2d.vec, graph.inputs[0], None, [2.0, 2.0]
    )
    assert graph.codes_of(graph.lower(node)) == ir.Upsample(
        'upsample_nearest2d_vec', ('x0', 'x1'), 2, CODES
    )


@pytest.mark.parametrize('factor', [3.0, 0.5, 1.5])
def test_upsampling_by_other_factors_is_refused(factor):
    size = [int(side * factor) for side in MAP[2:]]
    graph = OneNode(MAP, (1, 3, *size))
    node = graph.node(
        aten.upsample_nearest2d.vec, graph.inputs[0], None, [factor] * 2
    )
    with pytest.raises(UserError, match='powers of two, or the size of'):
        graph.codes_of(graph.lower(node))


def test_upsampling_to_a_new_size_is_refused(graph):
    node = graph.node(
        aten.upsample_nearest2d.vec, *graph.inputs, None, [2.0, 2.0]
    )
    with pytest.raises(UserError, match='no tensor before it has the size'):
        graph.codes_of(graph.lower(node))


def test_concatenations_are_of_channels():
    graph = OneNode(MAP, MAP)
    for dim, passes in ((1, True), (-3, True), (2, False)):
        node = graph.node(aten.cat.default, graph.inputs, dim)
        if passes:
            op = graph.codes_of(graph.lower(node))
            assert (op.inputs, op.channels) == (('x0', 'x1'), 4)
        else:
            with pytest.raises(UserError, match='only channels are conc'):
                graph.lower(node)


@pytest.mark.parametrize(
    'slices, expected',
    [
        ((1, 1, 2), (1, 1, (0, 0), (1, 1))),
        ((2, 1, 99, 2), (2, 0, (1, 0), (2, 1))),
        ((3, 0, 99, 3), (2, 0, (0, 0), (1, 3))),
        ((1, -1, 99), (1, 1, (0, 0), (1, 1))),
        ((1, -9, -1), (1, 0, (0, 0), (1, 1))),
        ((2, -3, 99), (2, 0, (1, 0), (1, 1))),
    ],
)
def test_slices(graph, slices, expected):
    node = graph.node(aten.slice.Tensor, *graph.inputs, *slices)
    op = graph.codes_of(graph.lower(node))
    assert (op.channels, op.first, op.offset, op.step) == expected


@pytest.mark.parametrize(
    'slices, message',
    [
        ((2, 0, 3), 'this slice is not supported'),
        ((1, 0, 99, 2), 'channels are sliced without a step'),
    ],
)
def test_slices_that_are_refused(graph, slices, message):
    node = graph.node(aten.slice.Tensor, *graph.inputs, *slices)
    with pytest.raises(UserError, match=message):
        graph.lower(node)


def test_parts_of_a_split(graph):
    parts = graph.node(aten.split_with_sizes.default, *graph.inputs, [1, 1], 1)
    part = graph.graph.call_function(operator.getitem, (parts, 1))
    part.meta['val'] = parts.meta['val'][1]
    op = graph.codes_of(graph.lower(part))
    assert (op.inputs, op.first, op.channels) == (('x0',), 1, 1)


def test_parts_of_anything_else_are_refused(graph):
    parts = graph.node(aten.split_with_sizes.default, *graph.inputs, [2, 2], 2)
    part = graph.graph.call_function(operator.getitem, (parts, 1))
    with pytest.raises(UserError, match='stays float: it takes a part of'):
        graph.lower(part)
