"""What a file must be, part by part."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper, numpy_helper

from aqd_mmdet.errors import UserError
from aqd_mmdet.from_onnx.graph import Graph
from aqd_mmdet.from_onnx.yolox import read_yolox
from tests.from_onnx.exported import export, small_yolox

Change = Callable[[onnx.GraphProto], None]


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('exported')
    return export(small_yolox(), folder / 'small.onnx')


def nodes(graph: onnx.GraphProto, kind: str) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type == kind]


def set_attribute(kind: str, name: str, value: object, last: bool = True):
    """Give the last or the first node of a kind another attribute."""

    def change(graph: onnx.GraphProto) -> None:
        node = nodes(graph, kind)[-1 if last else 0]
        kept = [x for x in node.attribute if x.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def set_kind(kind: str, other: str):
    def change(graph: onnx.GraphProto) -> None:
        nodes(graph, kind)[0].op_type = other

    return change


def set_constant(kind: str, number: int, array: np.ndarray):
    """Give the first node of a kind another constant as an input."""

    def change(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(array, 'other'))
        nodes(graph, kind)[0].input[number] = 'other'

    return change


def swap_inputs(kind: str, one: int, other: int):
    def change(graph: onnx.GraphProto) -> None:
        names = nodes(graph, kind)[0].input
        names[one], names[other] = names[other], names[one]

    return change


def lose_bias(graph: onnx.GraphProto) -> None:
    del nodes(graph, 'Conv')[0].input[2]


def gate_by_another(graph: onnx.GraphProto) -> None:
    first, second = nodes(graph, 'Sigmoid')[:2]
    second.input[0] = first.input[0]


def read_another(graph: onnx.GraphProto) -> None:
    """Let the second convolution of a head read the first one's input."""
    *_, boxes, objectness = nodes(graph, 'Conv')
    assert boxes.input[0] == objectness.input[0]
    objectness.input[0] = nodes(graph, 'Mul')[-2].output[0]


def take_half(graph: onnx.GraphProto) -> None:
    (weights,) = (
        x
        for x in graph.initializer
        if x.name == nodes(graph, 'Conv')[0].input[1]
    )
    array = numpy_helper.to_array(weights).astype(np.float16)
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))


def add_node(graph: onnx.GraphProto) -> None:
    graph.node.append(
        helper.make_node('Exp', [graph.input[0].name], ['e'], name='more')
    )


def add_constant(graph: onnx.GraphProto) -> None:
    array = np.zeros(3, np.float32)
    graph.initializer.append(numpy_helper.from_array(array, 'left'))


def decode(graph: onnx.GraphProto) -> None:
    graph.node[-1].output[0] = 'codes'
    graph.node.append(
        helper.make_node('Exp', ['codes'], ['output'], name='decoded')
    )


def normalise(graph: onnx.GraphProto) -> None:
    """Let the image be divided before the network."""
    number = numpy_helper.from_array(np.array(255, np.float32), 'number')
    graph.initializer.append(number)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == 'images':
                node.input[index] = 'divided'
    graph.node.insert(
        0,
        helper.make_node('Div', ['images', 'number'], ['divided'], name='by'),
    )


FLOATS = np.float32
REFUSED: dict[str, tuple[Change, str]] = {
    'mode': (
        set_attribute('Resize', 'mode', 'linear'),
        "mode='nearest', found mode='linear'",
    ),
    'nearest_mode': (
        set_attribute('Resize', 'nearest_mode', 'ceil'),
        "nearest_mode='floor', found nearest_mode='ceil'",
    ),
    'scales': (
        set_constant('Resize', 2, np.array([1, 1, 3, 3], FLOATS)),
        'scales [1, 1, 2, 2], found [1.0, 1.0, 3.0, 3.0]',
    ),
    'activation': (
        set_kind('Sigmoid', 'Tanh'),
        'SiLU of backbone.stem.conv: expected Sigmoid, found ',
    ),
    'gate': (gate_by_another, 'expected the tensor '),
    'stride': (
        set_attribute('Conv', 'strides', [2, 2], last=False),
        'strides=[1, 1], found strides=[2, 2]',
    ),
    'border': (
        set_attribute('Conv', 'pads', [0, 1, 0, 1], last=False),
        'pads=[1, 1, 1, 1], found pads=[0, 1, 0, 1]',
    ),
    'dilation': (
        set_attribute('Conv', 'dilations', [2, 2], last=False),
        'dilations=[1, 1], found dilations=[2, 2]',
    ),
    'automatic border': (
        set_attribute('Conv', 'auto_pad', 'SAME_LOWER', last=False),
        "auto_pad='NOTSET', found auto_pad='SAME_LOWER'",
    ),
    'bias': (lose_bias, 'expected a bias, into which a batch norm'),
    'type': (take_half, 'expected float32, found float16'),
    'window': (
        set_attribute('MaxPool', 'kernel_shape', [7, 7]),
        'kernel_shape=[13, 13], found kernel_shape=[7, 7]',
    ),
    'rounding of sides': (
        set_attribute('MaxPool', 'ceil_mode', 1),
        'ceil_mode=0, found ceil_mode=1',
    ),
    'order of a focus': (
        swap_inputs('Concat', 0, 1),
        'pixels from row and column (0, 0), found (1, 0)',
    ),
    'step of a focus': (
        set_constant('Slice', 4, np.array([3])),
        'every second row or column up to the last, found axis',
    ),
    'axis': (
        set_attribute('Concat', 'axis', 0, last=False),
        'axis=1, found axis=0',
    ),
    'order of axes': (
        set_attribute('Transpose', 'perm', [0, 1, 2]),
        'perm=[0, 2, 1], found perm=[0, 1, 2]',
    ),
    'branches': (read_another, 'conv_obj.2: expected the tensor '),
    'node': (add_node, 'besides the detector, found 1 nodes or constants, '),
    'constant': (add_constant, "such as constant 'left'"),
    'decoded boxes': (
        decode,
        'maps of boxes that are not decoded: expected Transpose, found '
        'decoded (Exp)',
    ),
    'normalised image': (normalise, "expected the tensor 'divided'"),
}


def lose_windows(graph: onnx.GraphProto) -> None:
    for node in nodes(graph, 'Conv'):
        kept = [x for x in node.attribute if x.name != 'kernel_shape']
        del node.attribute[:]
        node.attribute.extend(kept)


def swap_all(graph: onnx.GraphProto) -> None:
    for node in nodes(graph, 'Add'):
        node.input[:] = list(node.input)[::-1]


@pytest.mark.parametrize('depthwise', [False, True])
@pytest.mark.parametrize('change', [lose_windows, swap_all])
def test_the_same_function_in_another_spelling(tmp_path, change, depthwise):
    detector = small_yolox(depthwise=depthwise)
    path = export(detector, tmp_path / 'before.onnx')
    expected = read_yolox(Graph(path)).weights
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    found = read_yolox(Graph(path)).weights
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize('change, message', REFUSED.values(), ids=REFUSED)
def test_what_is_another_function_is_refused(
    exported, tmp_path, change, message
):
    model = onnx.load(exported)
    change(model.graph)
    path = tmp_path / 'changed.onnx'
    onnx.save(model, path)
    with pytest.raises(UserError) as error:
        read_yolox(Graph(path))
    assert message in str(error.value)
    assert str(error.value).startswith(f'{path}: ')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'kind', ['Add', 'Concat', 'MaxPool', 'Reshape', 'Resize', 'Slice']
)
def test_every_node_counts(exported, tmp_path, kind):
    model = onnx.load(exported)
    model.opset_import.append(helper.make_opsetid('other', 1))
    path = tmp_path / 'changed.onnx'
    for number, node in enumerate(model.graph.node):
        if node.op_type == kind:
            changed = onnx.ModelProto()
            changed.CopyFrom(model)
            changed.graph.node[number].domain = 'other'
            onnx.save(changed, path)
            # A focus without a slice, and a shape that is not known, are
            # refused in other words.
            with pytest.raises(
                UserError, match=f'other.{kind}|slices of rows|a constant'
            ):
                read_yolox(Graph(path))
