"""A compiled detector in QONNX, for FPGAs: docs/export.md.

The package qonnx is not needed.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..program import ops as ir
from ..program.detector import CompiledDetector
from . import onnx_movement_ops, onnx_ops, qonnx_ops, qonnx_requantize
from .onnx_graph import Graph, Tensor, Value
from .onnx_model import IMAGE, Translation, content, graph_of, put_output
from .onnx_proto import DOMAINS, proto_of
from .onnx_tables import with_fewer_lookups
from .qdq_ops import FLOAT
from .qonnx_graph import by_integers

if TYPE_CHECKING:
    import onnx


def export(compiled: CompiledDetector, size: ir.Size) -> bytes:
    """Return a detector as the content of a file ``model.onnx``.

    Args:
        compiled: The detector.
        size: Height and width of the network's image.

    Raises:
        UserError: If it has a second stage or an operator that has no
            translation, does not take images of this size, or the package
            onnx is missing.
    """
    return content(compiled, partial(model_of, size=size), {})


def model_of(
    program: ir.Program,
    outputs: Mapping[str, str],
    texts: Mapping[str, str],
    size: ir.Size,
) -> 'onnx.ModelProto':
    """Return a program as a model in QONNX of one image.

    Args:
        program: The program.
        outputs: Tensors of the program by the names of the model's outputs.
        texts: The model's metadata.
        size: Height and width of the image.
    """
    sizes = program.sizes(size)
    graph, tensors = network(program, sizes)
    for name, key in outputs.items():
        graph.scope = key
        put_output(graph, tensors[key], name)
    image = Value(IMAGE, FLOAT, (1, program.ops[0].channels, *size))
    maps = [
        Value(name, 'int32', (1, program.by_output[key].channels, *sizes[key]))
        for name, key in outputs.items()
    ]
    return completed(proto_of(graph, [image], maps, texts))


def network(
    program: ir.Program, sizes: ir.Sizes
) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph of a program, and its tensors by their names.

    Args:
        program: The program.
        sizes: Of all tensors.
    """
    # The sides of the image are constants, and were checked.
    program = replace(with_fewer_lookups(program), stride=1)
    return graph_of(program, program.ops, translations(program, sizes))


def translations(
    program: ir.Program, sizes: ir.Sizes
) -> Mapping[type[ir.Op], Translation]:
    """Return a function for each kind of operator."""
    signs = qonnx_ops.signs_of(program)
    return {
        ir.Image: qonnx_ops.image,
        ir.Convolution: partial(qonnx_ops.convolution, signs=signs),
        ir.MaxPool: qonnx_ops.max_pool,
        ir.Requantize: partial(qonnx_requantize.requantize, signs=signs),
        ir.Add: qonnx_ops.add,
        ir.Multiply: qonnx_ops.multiply,
        ir.Mean: by_integers(onnx_ops.mean),
        ir.GroupNorm: by_integers(onnx_ops.group_norm),
        ir.Lookup: by_integers(onnx_ops.lookup),
        ir.Upsample: partial(qonnx_ops.upsample, sizes=sizes),
        ir.Concatenate: qonnx_ops.concatenate,
        ir.Slice: onnx_movement_ops.slice_,
    }


def completed(model: 'onnx.ModelProto') -> 'onnx.ModelProto':
    """Add what QONNX wants to know: all shapes, and the width of the image.

    ONNX infers shapes up to the first operator that it does not know. Those
    of QONNX give the shape of what they read, as Identity does.
    """
    import onnx

    known = onnx.ModelProto()
    known.CopyFrom(model)
    for node in known.graph.node:
        if node.op_type in DOMAINS:
            del node.input[1:], node.attribute[:]
            node.op_type, node.domain = 'Identity', ''
    found = onnx.shape_inference.infer_shapes(known, strict_mode=True)
    model.graph.value_info.extend(found.graph.value_info)
    image = model.graph.quantization_annotation.add(tensor_name=IMAGE)
    image.quant_parameter_tensor_names.add(key='finn_datatype', value='UINT8')
    return model
