"""A compiled detector as a model of ONNX: docs/export.md.

The package onnx is imported where a model is made, so that everything else
can be imported without it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import UserError
from ..program import ops as ir
from ..program.container import VERSION
from ..program.detector import CompiledDetector
from ..program.limits import expect
from . import onnx_movement_ops, onnx_ops, onnx_window_ops
from .onnx_graph import Graph, Node, Tensor, integers

if TYPE_CHECKING:
    import onnx

Translation = Callable[[Graph, Any, Sequence[Tensor]], Tensor]
# From a program, its tensors by the names of outputs, and metadata.
Build = Callable[
    [ir.Program, Mapping[str, str], Mapping[str, str]], 'onnx.ModelProto'
]
# A function for each kind of operator. It is given the graph, the operator
# and the tensors that it reads, and adds nodes.
TRANSLATIONS: Mapping[type[ir.Op], Translation] = {
    ir.Image: onnx_ops.image,
    ir.Convolution: onnx_window_ops.convolution,
    ir.MaxPool: onnx_window_ops.max_pool,
    ir.Requantize: onnx_ops.requantize,
    ir.Add: onnx_ops.add,
    ir.Multiply: onnx_ops.multiply,
    ir.Mean: onnx_ops.mean,
    ir.GroupNorm: onnx_ops.group_norm,
    ir.Lookup: onnx_ops.lookup,
    ir.Upsample: onnx_movement_ops.upsample,
    ir.Concatenate: onnx_movement_ops.concatenate,
    ir.Slice: onnx_movement_ops.slice_,
}
# The oldest set of operators that has all that is used here.
OPSET, IR_VERSION = 17, 8
IMAGE = 'image'
# Of the contract, section 5, in its order.
KINDS = ('logits', 'box_codes', 'factors')


def export(compiled: CompiledDetector) -> bytes:
    """Return a detector as the content of a file ``model.onnx``.

    Args:
        compiled: The detector.

    Raises:
        UserError: If it has a second stage or an operator that has no
            translation, or the package onnx is missing.
    """
    return content(compiled, model_of, {})


def content(
    compiled: CompiledDetector, build: Build, more: Mapping[str, str]
) -> bytes:
    """Return a detector as the content of a file, by a format's builder.

    Args:
        compiled: The detector.
        build: As :func:`model_of`.
        more: Metadata besides that of all formats.

    Raises:
        UserError: As of :func:`export`.
    """
    if find_spec('onnx') is None:
        raise UserError(
            "onnx is not installed: run pip install 'aqd_mmdet[export]'"
        )
    import onnx

    expect(
        compiled.regions is None,
        'the detector',
        'one stage for an export to ONNX',
        'a second stage (Regions); run it with tools/infer.py',
    )
    names = [
        [f'{kind}.{level}' for level in range(len(out.tensors))]
        for kind, out in zip(KINDS, compiled.program.outputs, strict=False)
    ]
    outputs = {
        name: tensor
        for each, out in zip(names, compiled.program.outputs, strict=True)
        for name, tensor in zip(each, out.tensors, strict=True)
    }
    texts = {**metadata(compiled, names), **more}
    model = build(compiled.program, outputs, texts)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def metadata(
    compiled: CompiledDetector, names: list[list[str]]
) -> dict[str, str]:
    """Return what a reader must know besides the graph, each as JSON.

    Args:
        compiled: The detector.
        names: Of the graph's outputs, of each kind and level.
    """
    outputs = [
        dict(kind=kind, names=each, scale=out.scale)
        for kind, each, out in zip(
            KINDS, names, compiled.program.outputs, strict=False
        )
    ]
    texts = dict(
        format_version=VERSION,
        stride=compiled.program.stride,
        labels=list(compiled.labels),
        preprocess=plain(compiled.preprocess),
        outputs=outputs,
        postprocess=plain(compiled.postprocess),
    )
    return {
        f'aqd.{key}': json.dumps(value, ensure_ascii=False)
        for key, value in texts.items()
    }


def plain(value: Any) -> Any:
    """Return a record for JSON: objects with their kind, lists of numbers."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value):
        record = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return {'kind': type(value).__name__, **record}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def model_of(
    program: ir.Program,
    outputs: Mapping[str, str],
    texts: Mapping[str, str],
) -> 'onnx.ModelProto':
    """Return a program as a model of ONNX.

    Args:
        program: The program.
        outputs: Tensors of the program by the names of the model's outputs.
        texts: The model's metadata.
    """
    graph, tensors = graph_of(program, program.ops, TRANSLATIONS)
    for name, tensor in outputs.items():
        graph.scope = tensor
        put_output(graph, tensors[tensor], name)
    return proto_of(graph, program, outputs, 'int32', texts)


def proto_of(
    graph: Graph,
    program: ir.Program,
    outputs: Mapping[str, str],
    dtype: str,
    texts: Mapping[str, str],
) -> 'onnx.ModelProto':
    """Return a graph that is complete as a model of ONNX.

    Args:
        graph: The graph.
        program, outputs, texts: As of :func:`model_of`.
        dtype: Of the outputs.
    """
    from onnx import helper

    values = []
    for name, tensor in outputs.items():
        sides = (f'{name}.height', f'{name}.width')
        shape = ('batch', program.by_output[tensor].channels, *sides)
        values.append(value_info(name, dtype, shape))
    channels = program.ops[0].channels
    image = ('batch', channels, 'height', 'width')
    model = helper.make_model(
        helper.make_graph(
            [proto(each) for each in graph.nodes],
            'aqd',
            [value_info(IMAGE, 'uint8', image)],
            values,
            [constant(*each) for each in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=IR_VERSION,
        producer_name='aqd_mmdet',
        producer_version=__version__,
    )
    helper.set_model_props(model, dict(texts))
    return model


def graph_of(
    program: ir.Program,
    ops: Iterable[ir.Op],
    translations: Mapping[type[ir.Op], Translation],
) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph of a program, and its tensors by their names.

    Args:
        program: The program.
        ops: Its operators, some of which may stand for several.
        translations: Of the kinds of operators.
    """
    graph = Graph(program.weights)
    channels = program.ops[0].channels
    none, most = integers(0, channels), integers(255, channels)
    pixels = checked_image(graph, channels, program.stride)
    tensors = {'image': Tensor(pixels, 'uint8', none, none, most)}
    for op in ops:
        kind = type(op)
        expect(
            kind in translations,
            op.where,
            'a kind that can be exported to ONNX '
            f'({", ".join(each.__name__ for each in translations)})',
            kind.__name__,
        )
        graph.scope = op.output
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.output] = translations[kind](graph, op, inputs)
    return graph, tensors


def checked_image(graph: Graph, channels: int, stride: int) -> str:
    """Return the image; a Reshape fails if its sides are no multiples.

    ONNX has no assertion. The new shape has sides that are rounded up, and
    with them too many pixels, unless they were multiples before.
    """
    if stride == 1:
        return IMAGE
    graph.scope = f'sides of the image must be multiples of {stride}'
    sides = graph.size(IMAGE, 2, 4)
    step, below = np.array(stride), np.array(stride - 1)
    steps = graph.node('Div', graph.node('Add', sides, below), step)
    whole = graph.node('Mul', steps, step)
    shape = graph.node('Concat', np.array([0, channels]), whole, axis=0)
    return graph.node('Reshape', IMAGE, shape)


def put_output(graph: Graph, x: Tensor, name: str) -> None:
    """Add the node of an output, int32 codes, that has this name."""
    graph.put('Identity', name, graph.codes(x).name)


def value_info(
    name: str, dtype: str, shape: tuple[int | str, ...]
) -> 'onnx.ValueInfoProto':
    from onnx import helper

    return helper.make_tensor_value_info(name, onnx_type(dtype), shape)


def onnx_type(dtype: str | np.dtype) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def constant(name: str, array: np.ndarray) -> 'onnx.TensorProto':
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def proto(node: Node) -> 'onnx.NodeProto':
    from onnx import helper

    attributes: dict[str, Any] = {
        key: onnx_type(value) if isinstance(value, np.dtype) else value
        for key, value in node.attributes.items()
    }
    return helper.make_node(
        node.kind, node.inputs, [node.name], node.name, **attributes
    )
