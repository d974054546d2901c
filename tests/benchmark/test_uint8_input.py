"""Quantised ONNX networks whose input becomes bytes."""

import numpy as np
import pytest

from aqd_mmdet.benchmark.uint8_input import use_uint8_input
from aqd_mmdet.errors import UserError

onnx = pytest.importorskip('onnx')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

SHAPE = (1, 3, 4, 6)
SIDES = ['batch', 'channels', 'height', 'width']


def network(*nodes, outputs):
    """A model of some nodes that read an image and the constants below."""
    constants = dict(
        scale=np.float32(1),
        other=np.float32(2),
        zero=np.uint8(0),
        swapped=np.array([1, 0, *range(2, 12)]),
    )
    graph = helper.make_graph(
        nodes,
        'network',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, SIDES)
            for name in outputs
        ],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 19)]
    )


def quantized(name, scale='scale'):
    return [
        helper.make_node(
            'QuantizeLinear', [name, scale, 'zero'], [f'{name}q']
        ),
        helper.make_node(
            'DequantizeLinear', [f'{name}q', scale, 'zero'], [f'{name}d']
        ),
    ]


FOCUS = [
    helper.make_node('SpaceToDepth', ['image'], ['deep'], blocksize=2),
    helper.make_node('Gather', ['deep', 'swapped'], ['focus'], axis=1),
]


@pytest.mark.parametrize('moves', [[], FOCUS])
def test_the_quantisation_is_removed_wherever_pixels_have_been_moved(moves):
    name = 'focus' if moves else 'image'
    model = network(*moves, *quantized(name), outputs=[f'{name}d'])
    model.graph.value_info.append(
        helper.make_tensor_value_info('focus', TensorProto.FLOAT, SIDES)
    )
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    (expected,) = ReferenceEvaluator(model).run(
        None, dict(image=pixels.astype(np.float32))
    )
    use_uint8_input(model.graph)
    onnx.checker.check_model(model)
    assert [x.op_type for x in model.graph.node] == [
        *(x.op_type for x in moves),
        'DequantizeLinear',
    ]
    for value in (model.graph.input[0], *model.graph.value_info[: len(moves)]):
        assert value.type.tensor_type.elem_type == TensorProto.UINT8
    (found,) = ReferenceEvaluator(model).run(None, dict(image=pixels))
    assert np.array_equal(found, expected)


def test_an_operator_that_computes_is_refused_by_name():
    relu = helper.make_node('Relu', ['image'], ['y'], name='first')
    with pytest.raises(UserError, match='begins with Relu first: expected'):
        use_uint8_input(network(relu, outputs=['y']).graph)


def test_two_quantisations_must_agree():
    part = helper.make_node('Transpose', ['image'], ['part'])
    nodes = [part, *quantized('image'), *quantized('part', 'other')]
    model = network(*nodes, outputs=['imaged', 'partd'])
    with pytest.raises(UserError, match='in 2 ways: expected one'):
        use_uint8_input(model.graph)
