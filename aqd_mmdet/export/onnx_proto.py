"""A graph as the protocol buffers of ONNX.

The package onnx is imported where they are made, so that everything else can
be imported without it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..runtime.optional import need
from .onnx_graph import Body, Graph, Node, Value

if TYPE_CHECKING:
    import onnx

# The oldest set of operators that has all that is used here.
OPSET, IR_VERSION = 17, 8
PRODUCER = 'aqd_mmdet'
EXTRA = "'aqd_mmdet[export]'"  # what pip installs for exports
# Of operators that are not ONNX's own.
QONNX = 'qonnx.custom_op.general'
DOMAINS = {'Quant': QONNX, 'MultiThreshold': QONNX}


def checked(model: 'onnx.ModelProto') -> bytes:
    """Return the content of a file of a model that ONNX's checker passes."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def proto_of(
    graph: Graph,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    texts: Mapping[str, str],
) -> 'onnx.ModelProto':
    """Return a graph that is complete as a model of ONNX.

    Args:
        graph: The graph.
        inputs: What it is given.
        outputs: What it gives.
        texts: The model's metadata.
    """
    from onnx import helper

    domains = {DOMAINS[x.kind] for x in graph.nodes if x.kind in DOMAINS}
    model = helper.make_model(
        graph_proto('aqd', graph, inputs, outputs, graph.constants),
        opset_imports=[
            helper.make_opsetid('', OPSET),
            *(helper.make_opsetid(each, 1) for each in domains),
        ],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        producer_version=__version__,
    )
    helper.set_model_props(model, dict(texts))
    return model


def is_own(path: Path) -> bool:
    """Say whether a file is a model of :func:`proto_of`.

    Args:
        path: The file.

    Raises:
        UserError: If there is one, and the package onnx is missing.
    """
    if not path.is_file():
        return False
    onnx = need('onnx', EXTRA, f'replacing {path}')
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # of protobuf, many kinds
        return False
    return bool(model.producer_name == PRODUCER)


def graph_proto(
    name: str,
    graph: Graph,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Mapping[str, np.ndarray],
) -> 'onnx.GraphProto':
    """Return a graph of ONNX, which a Body is as well."""
    from onnx import helper

    return helper.make_graph(
        [proto(each) for each in graph.nodes],
        name,
        [value_info(each) for each in inputs],
        [value_info(each) for each in outputs],
        [constant(*each) for each in constants.items()],
    )


def value_info(value: Value) -> 'onnx.ValueInfoProto':
    from onnx import helper

    return helper.make_tensor_value_info(
        value.name, onnx_type(value.dtype), value.shape
    )


def onnx_type(dtype: str | np.dtype) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def constant(name: str, array: np.ndarray) -> 'onnx.TensorProto':
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def proto(node: Node) -> 'onnx.NodeProto':
    from onnx import helper

    attributes = {
        key: attribute(value) for key, value in node.attributes.items()
    }
    outputs = [node.name, *node.others]
    return helper.make_node(
        node.kind, node.inputs, outputs, node.name,
        domain=DOMAINS.get(node.kind), **attributes,
    )  # fmt: skip


def attribute(value: Any) -> Any:
    """Return an attribute of a node as the package onnx takes it."""
    if isinstance(value, np.dtype):
        return onnx_type(value)
    if isinstance(value, Body):
        return graph_proto(
            'body', value.graph, value.inputs, value.outputs, {}
        )
    return value
