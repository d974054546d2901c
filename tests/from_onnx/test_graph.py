"""Files that are no graph of a detector at all, and constants in graphs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from aqd_mmdet.errors import UserError
from aqd_mmdet.from_onnx.graph import Graph

IMAGE: Sequence[int | str] = ('batch', 3, 32, 64)

NEWEST = onnx.defs.onnx_opset_version()


def write(
    path: Path,
    *nodes: NodeProto,
    opset: int = 11,
    image: Sequence[int | str] = IMAGE,
    inputs: Sequence[str] = ('image',),
    outputs: Sequence[str] = ('y',),
) -> Path:
    """A file of float tensors; by default of one Sigmoid."""
    nodes = nodes or (helper.make_node('Sigmoid', ['image'], ['y']),)

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, image)

    values = [value(name) for name in inputs]
    graph = helper.make_graph(nodes, 'g', values, list(map(value, outputs)))
    opsets = [helper.make_opsetid('', opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match='a.onnx: no such file$'):
        Graph(tmp_path / 'a.onnx')


@pytest.mark.parametrize('content', [b'', b'no graph', b'\x08\x08'])
def test_files_of_something_else(tmp_path, content):
    path = tmp_path / 'a.onnx'
    path.write_bytes(content)
    with pytest.raises(UserError, match='it is no valid file of ONNX'):
        Graph(path)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(opset=10), 'its operator set: expected 11 or later, found 10'),
        (
            dict(opset=NEWEST + 1),
            f'its operator set: expected {NEWEST} or earlier, which the .* '
            f'found {NEWEST + 1}$',
        ),
        (
            dict(inputs=('image', 'size')),
            r'its inputs: expected one input, found 2 \(image, size\)',
        ),
        (
            dict(outputs=('y', 'image')),
            r'its outputs: expected one output, found 2 \(y, image\)',
        ),
        (
            dict(image=(1, 3, 'height', 64)),
            r"found \(1, 3, 'free', 64\)",
        ),
        (dict(image=(1, 1, 32, 32)), 'images of three channels'),
        (dict(image=(3, 32, 32)), 'images of three channels'),
    ],
)
def test_other_inputs_and_outputs(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Graph(write(tmp_path / 'a.onnx', **options))


def constant(name: str, values: list[int]) -> NodeProto:
    array = numpy_helper.from_array(np.array(values), name)
    return helper.make_node('Constant', [], [name], value=array)


def flattening(kind: str = 'Concat') -> list[NodeProto]:
    """Nodes as of x.flatten(2), which compute a shape."""
    return [
        helper.make_node('Shape', ['image'], ['shape']),
        *(constant('first', [0]), constant('last', [2])),
        helper.make_node('Slice', ['shape', 'first', 'last'], ['kept']),
        constant('rest', [-1]),
        helper.make_node(kind, ['kept', 'rest'], ['new'], axis=0),
        helper.make_node('Identity', ['new'], ['same']),
        helper.make_node('Reshape', ['image', 'same'], ['y'], name='flat'),
    ]


def test_shapes_are_computed(tmp_path):
    graph = Graph(write(tmp_path / 'a.onnx', *flattening()))
    assert graph.sides == (32, 64)
    node = graph.take('y', 'Reshape', 'flattening')
    assert node.label == 'flat (Reshape)'
    # Of one image, whatever the number of images.
    assert graph.constant(node.inputs[1], 'shape').tolist() == [1, 3, -1]
    graph.finish()


def test_constants_may_be_inputs_as_well(tmp_path):
    weights = numpy_helper.from_array(np.ones((5, 3, 1, 1), np.float32), 'w')
    node = helper.make_node('Conv', ['image', 'w'], ['made'])
    path = write(
        tmp_path / 'a.onnx', node, helper.make_node('Shape', ['made'], ['y'])
    )
    model = onnx.load(path)
    model.graph.initializer.append(weights)
    model.graph.input.append(
        helper.make_tensor_value_info('w', TensorProto.FLOAT, (5, 3, 1, 1))
    )
    onnx.save(model, path)
    graph = Graph(path)
    assert graph.image == 'image'
    assert graph.constant('y', 'shape').tolist() == [1, 5, 32, 64]


def test_constants_must_be_dense(tmp_path):
    path = write(tmp_path / 'a.onnx')
    model = onnx.load(path)
    arrays = (np.ones(1, np.float32), np.zeros(1, np.int64))
    values, indices = (
        numpy_helper.from_array(x, name)
        for x, name in zip(arrays, ('weights', 'indices'), strict=True)
    )
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, indices, [3])
    )
    onnx.save(model, path)
    with pytest.raises(
        UserError, match=r"constants: expected dense ones, found \['weights'\]"
    ):
        Graph(path)


def test_what_is_left_is_refused(tmp_path):
    graph = Graph(write(tmp_path / 'a.onnx', *flattening()))
    graph.take('y', 'Reshape', 'flattening')
    with pytest.raises(UserError, match="1 nodes or constants, .*'same'"):
        graph.finish()


def test_random_numbers_are_no_constants(tmp_path):
    node = helper.make_node('RandomNormal', [], ['y'], shape=[2])
    graph = Graph(write(tmp_path / 'a.onnx', node))
    with pytest.raises(UserError, match=r'a constant, found what y \(Random'):
        graph.constant('y', 'weights')
    with pytest.raises(
        UserError, match=r'weights: expected Conv, found y \(RandomNormal\)'
    ):
        graph.take('y', 'Conv', 'weights')


def test_operators_of_others_have_their_domain(tmp_path):
    node = helper.make_node('Sigmoid', ['image'], ['y'], domain='other')
    path = write(tmp_path / 'a.onnx', node)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid('other', 1))
    onnx.save(model, path)
    with pytest.raises(UserError, match=r'found y \(other.Sigmoid\)'):
        Graph(path).take('y', 'Sigmoid', 'scores')
    with pytest.raises(UserError, match='which no node makes'):
        Graph(path).take('image', 'Sigmoid', 'scores')
