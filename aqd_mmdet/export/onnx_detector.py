"""A compiled detector from its image to boxes as a model of ONNX."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from ..program import ops as ir
from ..program.detector import CompiledDetector, PostProcess
from ..program.selection import Selection
from .onnx_graph import Graph, Tensor, Value
from .onnx_model import check_detector, image_of, metadata, texts_of
from .onnx_ops import int64
from .onnx_postprocess import detect
from .onnx_proto import checked, proto_of

# The graph of a program, and its outputs by name: bytes or int32.
Network = Callable[[ir.Program], tuple[Graph, Mapping[str, Tensor]]]
SIZE = 'size'
# What leaves the model: docs/export.md.
OUTPUTS: Mapping[str, tuple[int | str, ...]] = {
    'boxes': ('detections', 4),
    'labels': ('detections',),
    'scores': ('detections',),
}
# The largest side with both its margins whose areas times 2^16 fit 63 bits.
MOST_PIXELS = 46340


def export(compiled: CompiledDetector, network: Network) -> bytes:
    """Return a detector as the content of a file ``model.onnx``.

    Args:
        compiled: The detector.
        network: What makes the graph of its program.

    Raises:
        UserError: If it has a second stage or an operator that has no
            translation, or the package onnx is missing.
    """
    check_detector(compiled)
    program, post = compiled.program, compiled.postprocess
    graph, tensors = network(program)
    image = image_of(program, 1)
    size = checked_size(graph, post, image.name)
    maps = [[tensors[name] for name in out.tensors] for out in program.outputs]
    found = detect(graph, post, maps, size, len(compiled.labels))
    for name, values in zip(OUTPUTS, found, strict=True):
        graph.put('Cast', name, values, to=np.dtype('int32'))
    inputs = [image, Value(SIZE, 'int64', (2,))]
    outputs = [Value(name, 'int32', shape) for name, shape in OUTPUTS.items()]
    texts = {
        **metadata(compiled),
        **texts_of(selection=asdict(Selection.of(compiled))),
    }
    return checked(proto_of(graph, inputs, outputs, texts))


def checked_size(graph: Graph, post: PostProcess, image: str) -> str:
    """Return the size of the image before its border.

    ONNX has no assertion: a Reshape of the two sides to more numbers fails,
    one more for each side that is not as it must be.
    """
    most = MOST_PIXELS - 2 * max(post.margin, 0)
    graph.scope = f'size must be inside the image and at most {most}'
    sides = graph.node('Min', graph.size(image, 2, 4), int64(most))
    inside = graph.node('Max', graph.node('Min', SIZE, sides), int64(1))
    is_same = graph.cast(graph.node('Equal', inside, SIZE), 'int64')
    count = graph.node('ReduceSum', is_same, np.array([0]))
    numbers = graph.node('Sub', np.array([4]), count)
    return graph.node('Reshape', SIZE, numbers)
