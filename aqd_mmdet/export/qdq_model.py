"""A compiled detector as a model of ONNX with QuantizeLinear: docs/export.md.

Integer convolutions are written as runtimes recognise them: a Conv of floats
between DequantizeLinear and QuantizeLinear.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ..program import ops as ir
from ..program.detector import CompiledDetector
from ..runtime.scores import shown
from . import onnx_model, qdq_convolution, qdq_ops, qdq_tables
from .onnx_graph import BYTES, Graph, Tensor
from .onnx_model import (
    Translation,
    content,
    graph_of,
    image_of,
    proto_of,
    values_of_maps,
)
from .onnx_pools import with_pools_first
from .onnx_tables import with_fewer_lookups
from .qdq_convolution import QuantizedConvolution
from .qdq_tables import QuantizedLookup

if TYPE_CHECKING:
    import onnx

TRANSLATIONS: Mapping[type[ir.Op], Translation] = {
    **onnx_model.TRANSLATIONS,
    QuantizedConvolution: qdq_convolution.quantized_convolution,
    QuantizedLookup: qdq_tables.quantized_lookup,
    ir.MaxPool: qdq_ops.max_pool,
    ir.Requantize: qdq_ops.requantize,
    ir.GroupNorm: qdq_ops.group_norm,
    ir.Lookup: qdq_ops.lookup,
}
# Nodes of Mean, and of a Requantize beyond doubles, which have int64 around
# them.
WIDE = {'ReduceProd', 'BitShift'}
# Units of a score and of an overlap in the contract, section 7.
SCORE_UNIT, OVERLAP_UNIT = 2.0**-24, 2.0**-16


def export(compiled: CompiledDetector) -> bytes:
    """Return a detector as the content of a file ``model.onnx``.

    Args:
        compiled: The detector.

    Raises:
        UserError: If it has a second stage or an operator that has no
            translation, or the package onnx is missing.
    """
    return content(
        compiled,
        model_of,
        {'aqd.thresholds': json.dumps(thresholds(compiled))},
    )


def thresholds(compiled: CompiledDetector) -> dict[str, float]:
    """Return the smallest score and the largest overlap, from 0 to 1."""
    post = compiled.postprocess
    score = shown(post.scores, np.array([post.threshold], np.int64))
    return dict(
        score=float(score[0]) * SCORE_UNIT, overlap=post.overlap * OVERLAP_UNIT
    )


def model_of(
    program: ir.Program,
    outputs: Mapping[str, str],
    texts: Mapping[str, str],
) -> 'onnx.ModelProto':
    """Return a program as a model whose outputs are real values, float32.

    Args:
        program: The program.
        outputs: Tensors of the program by the names of the model's outputs.
        texts: The model's metadata.
    """
    graph, tensors = network(program)
    scales = {
        tensor: out.scale for out in program.outputs for tensor in out.tensors
    }
    for name, tensor in outputs.items():
        graph.scope = tensor
        put_output(graph, tensors[tensor], scales[tensor], name)
    maps = values_of_maps(program, outputs, 'float32')
    return proto_of(graph, [image_of(program)], maps, texts)


def network(
    program: ir.Program, needs_int64: bool = False
) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph of a program, and its tensors by their names.

    Args:
        program: The program.
        needs_int64: Whether a runtime must fail that computes int64 as int32.
            It must in any case if there are nodes that need more.
    """
    program = with_pools_first(with_fewer_lookups(program))
    graph, tensors = graph_of(
        program, paired(program), TRANSLATIONS, needs_int64
    )
    if not needs_int64 and any(node.kind in WIDE for node in graph.nodes):
        return network(program, needs_int64=True)
    return graph, tensors


def paired(program: ir.Program) -> Iterator[ir.Op]:
    """Yield the operators; some together with the Requantize behind them.

    These requantise to at most 256 codes. A convolution of a pair is read by
    nothing else; a Lookup may have other readers, and stays.
    """
    readers, sources = program.readers(), program.by_output
    left_out = {
        op.inputs[0]
        for op in program.ops
        if is_to_bytes(op)
        and isinstance(sources[op.inputs[0]], ir.Convolution)
        and len(readers[op.inputs[0]]) == 1
    }
    for op in program.ops:
        if is_to_bytes(op):
            source = sources[op.inputs[0]]
            if op.inputs[0] in left_out:
                assert isinstance(source, ir.Convolution)
                yield QuantizedConvolution(
                    op.output, source.inputs, op.channels, op.grid, source,
                    op.multipliers,
                )  # fmt: skip
            elif isinstance(source, ir.Lookup):
                yield QuantizedLookup(
                    op.output, op.inputs, op.channels, op.grid,
                    op.multipliers, source,
                )  # fmt: skip
            else:
                yield op
        elif op.output not in left_out:
            yield op


def is_to_bytes(op: ir.Op) -> TypeGuard[ir.Requantize]:
    """Return whether an operator requantises to at most 256 codes."""
    return isinstance(op, ir.Requantize) and len(op.grid) <= BYTES


def put_output(graph: Graph, x: Tensor, scale: float, name: str) -> None:
    """Add the node of an output, real values, that has this name."""
    graph.put(
        'DequantizeLinear', name, graph.codes(x).name,
        np.array(scale, np.float32),
    )  # fmt: skip
