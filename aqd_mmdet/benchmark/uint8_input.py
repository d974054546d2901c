"""Lets a quantised ONNX network read bytes, as a compiled detector does."""

from typing import Any

from ..errors import UserError

# Operators that only move pixels, so that they move codes as well. A focus is
# slices of the image side by side; ONNX Runtime makes SpaceToDepth and Gather
# of it.
MOVEMENTS = (
    'Concat',
    'Gather',
    'Reshape',
    'Slice',
    'SpaceToDepth',
    'Transpose',
)


def use_uint8_input(graph: Any) -> tuple[float, int]:
    """Remove the quantisation of the input, so that the graph reads codes.

    The quantisation may stand behind operators that move pixels. These then
    move codes.

    Args:
        graph: Graph of a quantised ONNX model; changed in place.

    Returns:
        tuple: Scale and zero point of the codes.

    Raises:
        UserError: If the first operator that computes is not a quantisation,
            or there are several that differ.
    """
    import onnx
    from onnx import numpy_helper

    image = graph.input[0]
    pixels, quantizations = _follow(graph, image.name)
    grids = {tuple(node.input[1:]) for node in quantizations}
    if len(grids) != 1:
        raise UserError(
            f'the ONNX network quantises its image in {len(grids)} ways: '
            'expected one'
        )
    codes = {node.output[0]: node.input[0] for node in quantizations}
    for node in quantizations:
        graph.node.remove(node)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = codes.get(name, name)
    image.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    for value in graph.value_info:
        if value.name in pixels:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    values = {x.name: numpy_helper.to_array(x) for x in graph.initializer}
    scale, zero = (values[name] for name in grids.pop())
    return float(scale), int(zero)


def _follow(graph: Any, image: str) -> tuple[set[str], list[Any]]:
    """Follow pixels to their quantisations.

    Returns:
        tuple: Names of tensors that hold pixels, and the nodes that quantise
        these.
    """
    pixels, quantizations = {image}, []
    # Nodes are in the order in which they run.
    for node in graph.node:
        if not pixels.intersection(node.input):
            continue
        if node.op_type == 'QuantizeLinear':
            quantizations.append(node)
        elif node.op_type in MOVEMENTS:
            pixels.update(node.output)
        else:
            raise UserError(
                f'the ONNX network begins with {node.op_type} {node.name}: '
                f'expected QuantizeLinear behind {", ".join(MOVEMENTS)} or '
                'nothing'
            )
    return pixels, quantizations
