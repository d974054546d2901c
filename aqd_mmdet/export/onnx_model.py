"""A compiled detector as a model of ONNX: docs/export.md.

The package onnx is imported where a model is made, so that everything else
can be imported without it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..program import ops as ir
from ..program.container import VERSION
from ..program.detector import CompiledDetector
from ..program.limits import expect
from ..runtime.optional import need
from . import onnx_movement_ops, onnx_ops, onnx_window_ops
from .onnx_graph import Graph, Tensor, Value, integers
from .onnx_pools import with_pools_first
from .onnx_proto import EXTRA, checked, proto_of
from .onnx_tables import with_fewer_lookups

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
    check_detector(compiled)
    names = [
        [f'{kind}.{level}' for level in range(len(out.tensors))]
        for kind, out in zip(KINDS, compiled.program.outputs, strict=False)
    ]
    outputs = {
        name: tensor
        for each, out in zip(names, compiled.program.outputs, strict=True)
        for name, tensor in zip(each, out.tensors, strict=True)
    }
    texts = {**metadata(compiled), **metadata_of_maps(compiled, names), **more}
    return checked(build(compiled.program, outputs, texts))


def check_detector(compiled: CompiledDetector) -> None:
    """Raise if a detector cannot be exported.

    Args:
        compiled: The detector.

    Raises:
        UserError: If it has a second stage, or the package onnx is missing.
    """
    need('onnx', EXTRA, 'an export to ONNX')
    expect(
        compiled.regions is None,
        'the detector',
        'one stage for an export to ONNX',
        'a second stage (Regions); run it with tools/infer.py',
    )


def metadata(compiled: CompiledDetector) -> dict[str, str]:
    """Return what must be known to use any graph, each as JSON.

    Args:
        compiled: The detector.
    """
    return texts_of(
        format_version=VERSION,
        stride=compiled.program.stride,
        labels=list(compiled.labels),
        preprocess=plain(compiled.preprocess),
    )


def metadata_of_maps(
    compiled: CompiledDetector, names: list[list[str]]
) -> dict[str, str]:
    """Return what must be known to make boxes of maps, each as JSON.

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
    return texts_of(outputs=outputs, postprocess=plain(compiled.postprocess))


def texts_of(**records: Any) -> dict[str, str]:
    """Return records of metadata as JSON, by their keys in a file."""
    return {
        f'aqd.{key}': json.dumps(value, ensure_ascii=False)
        for key, value in records.items()
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
    graph, tensors = network(program)
    for name, tensor in outputs.items():
        graph.scope = tensor
        put_output(graph, tensors[tensor], name)
    maps = values_of_maps(program, outputs, 'int32')
    return proto_of(graph, [image_of(program)], maps, texts)


def network(program: ir.Program) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph of a program, and its tensors by their names."""
    program = with_pools_first(with_fewer_lookups(program))
    return graph_of(program, program.ops, TRANSLATIONS, needs_int64=True)


def image_of(program: ir.Program, batch: int | str = 'batch') -> Value:
    """Return what a program is given.

    Args:
        program: The program.
        batch: How many images a graph is given at a time.
    """
    channels = program.ops[0].channels
    return Value(IMAGE, 'uint8', (batch, channels, 'height', 'width'))


def values_of_maps(
    program: ir.Program, outputs: Mapping[str, str], dtype: str
) -> list[Value]:
    """Return what a model of maps gives.

    Args:
        program, outputs: As of :func:`model_of`.
        dtype: Of the maps.
    """
    values = []
    for name, tensor in outputs.items():
        sides = (f'{name}.height', f'{name}.width')
        shape = ('batch', program.by_output[tensor].channels, *sides)
        values.append(Value(name, dtype, shape))
    return values


def graph_of(
    program: ir.Program,
    ops: Iterable[ir.Op],
    translations: Mapping[type[ir.Op], Translation],
    needs_int64: bool = False,
) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph of a program, and its tensors by their names.

    Args:
        program: The program.
        ops: Its operators, some of which may stand for several.
        translations: Of the kinds of operators.
        needs_int64: Whether a runtime must fail that computes int64 as int32.
    """
    graph = Graph(program.weights)
    channels = program.ops[0].channels
    none, most = integers(0, channels), integers(255, channels)
    pixels = checked_image(graph, channels, program.stride)
    if needs_int64:
        pixels = checked_integers(graph, pixels, channels)
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


def checked_integers(graph: Graph, image: str, channels: int) -> str:
    """Return the image; a Reshape fails if int64 has less than 64 bits.

    OpenVINO computes int64 as int32, and would find other maps without a word.
    The new shape has other sides if a number beyond 32 bits is lost. It is
    made of a pixel, since of shapes alone OpenVINO computes with 64 bits, and
    of no factor 1: 2^40 becomes 2^31 - 1 there, which 1 would survive.
    """
    graph.scope = 'int64 must have 64 bits'
    origin, one = np.zeros(4, np.int64), np.ones(4, np.int64)
    pixel = graph.node('Slice', image, origin, one, np.arange(4))
    pixel = graph.node('Reshape', pixel, np.array([1]))
    number = graph.node('Add', graph.cast(pixel, 'int64'), np.array([2]))
    lifted = graph.node('Mul', number, np.array([2**40]))
    back = graph.node('Div', lifted, np.array([2**40]))
    kept = graph.node('Equal', number, back)
    lost = graph.cast(graph.node('Not', kept), 'int64')
    sides = graph.node('Add', graph.size(image, 2, 4), lost)
    shape = graph.node('Concat', np.array([0, channels]), sides, axis=0)
    return graph.node('Reshape', image, shape)


def put_output(graph: Graph, x: Tensor, name: str) -> None:
    """Add the node of an output, int32 codes, that has this name."""
    graph.put('Identity', name, graph.codes(x).name)
