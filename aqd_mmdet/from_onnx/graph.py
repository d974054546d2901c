"""The graph of an ONNX file, of which every part must be read.

Whoever follows the graph takes nodes and constants out of it by name, and
says what they must be. What nobody took is refused at the end.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError, first_line

if TYPE_CHECKING:
    import onnx

# The operators that are read, and what ONNX takes for attributes that a node
# has not; None for those that every node has.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    'Add': {},
    'Concat': dict(axis=None),
    'Conv': dict(
        auto_pad='NOTSET',
        dilations=[1, 1],
        group=1,
        kernel_shape=None,
        pads=[0, 0, 0, 0],
        strides=[1, 1],
    ),
    'MaxPool': dict(
        auto_pad='NOTSET',
        ceil_mode=0,
        dilations=[1, 1],
        kernel_shape=None,
        pads=[0, 0, 0, 0],
        storage_order=0,
        strides=[1, 1],
    ),
    'Mul': {},
    'Reshape': dict(allowzero=0),
    'Resize': dict(
        antialias=0,
        axes=None,
        coordinate_transformation_mode='half_pixel',
        cubic_coeff_a=-0.75,
        exclude_outside=0,
        extrapolation_value=0.0,
        keep_aspect_ratio_policy='stretch',
        mode='nearest',
        nearest_mode='round_prefer_floor',
    ),
    'Sigmoid': {},
    'Slice': {},
    'Transpose': dict(perm=None),
}
# The first operator set whose Slice and Resize are as they are read here.
OPSET = 11
# Letters of a text in the file that a message shows.
MAX_SHOWN = 100
# Names of the domain of ONNX's own operators.
OWN = ('', 'ai.onnx')
# Inputs that hold no values, as an operator's that has further ones.
ABSENT = ''


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        kind: Of ONNX, such as ``Conv``; of others with their domain.
        label: How messages name it.
        inputs: Names of tensors; :data:`ABSENT` for those left out.
        output: Name of the tensor that it makes.
        attributes: Those that it has.
    """

    kind: str
    label: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


class Graph:
    """The nodes and constants of a file.

    Args:
        path: The file.

    Attributes:
        path: The file.
        model: Its content.
        image: Name of the input.
        sides: Height and width of the input, in pixels.
        output: Name of the output.
        metadata: Its texts by key.

    Raises:
        UserError: If it is no file of ONNX, or has what is not read here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = _load(path)
        graph = self.model.graph
        self._check_opset()
        sparse = [each.values.name for each in graph.sparse_initializer]
        self.need(not sparse, 'its constants', 'dense ones', sparse[:3])
        self._constants = dict(map(self._constant, graph.initializer))
        self._shapes = _shapes(self.model)
        self._nodes: dict[str, Node] = {}
        self._aliases: dict[str, str] = {}
        self._taken: set[str] = set()
        for proto in graph.node:
            self._read(proto)
        inputs = [x for x in graph.input if x.name not in self._constants]
        self.image, shape = self._only('input', inputs)
        self.output, _ = self._only('output', graph.output)
        self.sides = self._sides(shape)
        self.metadata = {x.key: x.value for x in self.model.metadata_props}

    def need(self, ok: bool, where: str, expected: str, found: Any) -> None:
        """Raise unless something in the file is as it must be.

        Args:
            ok: Whether it is.
            where: Place in the file.
            expected: What must be there.
            found: What is there.
        """
        if not ok:
            raise UserError(
                f'{self.path}: {where}: expected {expected}, found {found}'
            )

    def kind(self, tensor: str) -> str:
        """Return the kind of node that makes a tensor; '' if none does."""
        node = self._nodes.get(self.source(tensor))
        return node.kind if node else ''

    def find(self, tensor: str, kind: str, purpose: str) -> Node:
        """Return the node that makes a tensor, without taking it.

        Args:
            tensor: Name of the tensor.
            kind: What the node must be.
            purpose: What it is for, for messages.
        """
        node = self._nodes.get(self.source(tensor))
        found = node.label if node else f'{tensor!r}, which no node makes'
        self.need(self.kind(tensor) == kind, purpose, kind, found)
        assert node is not None
        return node

    def source(self, tensor: str) -> str:
        """Return the name of a tensor behind the nodes that only rename."""
        while tensor in self._aliases:
            tensor = self._aliases[tensor]
        return tensor

    def take(
        self, tensor: str, kind: str, purpose: str, **attributes: Any
    ) -> Node:
        """Return the node that makes a tensor, and note that it is read.

        Args:
            tensor: Name of the tensor.
            kind: What the node must be.
            purpose: What it is for, for messages.
            attributes: What it must have; all others must be as ONNX has them
                in nodes without.
        """
        node = self.find(tensor, kind, purpose)
        found = {**DEFAULTS[kind], **node.attributes}
        expected = {**DEFAULTS[kind], **attributes}
        for name, value in found.items():
            self.need(
                value == expected.get(name),
                f'{node.label} ({purpose})',
                f'{name}={expected.get(name)!r}',
                f'{name}={value!r}',
            )
        self._taken.add(node.output)
        return node

    def constant(self, tensor: str, purpose: str) -> np.ndarray:
        """Return a constant, and note that it is read."""
        tensor = self.source(tensor)
        node = self._nodes.get(tensor)
        found = f'what {node.label} makes' if node else repr(tensor)
        self.need(tensor in self._constants, purpose, 'a constant', found)
        self._taken.add(tensor)
        return self._constants[tensor]

    def behind(self, tensors: Iterable[str]) -> set[str]:
        """Return the tensors that others are computed of, and those."""
        inputs = {x.output[0]: x.input for x in self.model.graph.node}
        waiting, found = list(tensors), set[str]()
        while waiting:
            tensor = waiting.pop()
            if tensor not in found:
                found.add(tensor)
                waiting += inputs.get(tensor, ())
        return found

    def finish(self) -> None:
        """Refuse nodes and constants that nobody took."""
        labels = {name: node.label for name, node in self._nodes.items()}
        labels.update({x: f'constant {x!r}' for x in self._constants})
        left = [x for name, x in labels.items() if name not in self._taken]
        self.need(
            not left,
            'the graph',
            'nothing besides the detector',
            f'{len(left)} nodes or constants, such as {", ".join(left[:3])}',
        )

    def names(self) -> Sequence[str] | None:
        """Return the names of classes in the metadata, if there are some.

        They are the text ``names``: a list, or a dict by label.
        """
        text = self.metadata.get('names')
        if text is None:
            return None
        try:
            value = ast.literal_eval(text)
            if isinstance(value, dict):
                value = [value[label] for label in range(len(value))]
            # Sets have no order, and the parts of a text are letters.
            names: Any = value if isinstance(value, (list, tuple)) else [None]
        except (
            *(ValueError, SyntaxError, KeyError, TypeError),
            *(MemoryError, RecursionError),  # of deeply nested texts
        ):
            names = [None]
        ok = all(isinstance(name, str) for name in names)
        self.need(
            ok,
            "the metadata's 'names'",
            'a list, or a dict by label',
            repr(text)[:MAX_SHOWN],
        )
        return names

    def _check_opset(self) -> None:
        from onnx.defs import onnx_opset_version

        newest = onnx_opset_version()
        for each in self.model.opset_import:
            self.need(
                each.domain not in OWN or each.version >= OPSET,
                'its operator set',
                f'{OPSET} or later',
                each.version,
            )
            self.need(
                each.domain not in OWN or each.version <= newest,
                'its operator set',
                f'{newest} or earlier, which the installed onnx knows (a '
                'newer onnx may know it)',
                each.version,
            )

    def _constant(self, proto: 'onnx.TensorProto') -> tuple[str, np.ndarray]:
        from onnx import numpy_helper

        return proto.name, numpy_helper.to_array(proto)

    def _read(self, proto: 'onnx.NodeProto') -> None:
        from onnx import helper

        if self._fold(proto):
            return
        if proto.op_type == 'Identity':
            self._aliases[proto.output[0]] = proto.input[0]
            return
        own = proto.domain in OWN
        kind = proto.op_type if own else f'{proto.domain}.{proto.op_type}'
        attributes: dict[str, Any] = {
            x.name: helper.get_attribute_value(x) for x in proto.attribute
        }
        for name, value in attributes.items():
            if isinstance(value, bytes):
                attributes[name] = value.decode()
        label = f'{proto.name or proto.output[0]} ({kind})'
        for output in proto.output:
            self._nodes[output] = Node(
                kind, label, tuple(proto.input), output, attributes
            )

    def _fold(self, proto: 'onnx.NodeProto') -> bool:
        """Compute a node of constants, or of the shape of a tensor.

        Returns:
            bool: Whether it was one.
        """
        from onnx.reference import ReferenceEvaluator

        name = proto.output[0]
        if proto.domain not in OWN:
            return False
        if proto.op_type == 'Shape' and not proto.attribute:
            shape = self._shapes.get(proto.input[0], (0,))
            if all(shape):
                self._constants[name] = np.array(shape, np.int64)
            return name in self._constants
        fixed = all(x in self._constants for x in proto.input if x)
        # Nodes without inputs may be random numbers as well.
        if not fixed or not (proto.input or proto.op_type == 'Constant'):
            return False
        values = {x: self._constants[x] for x in proto.input if x}
        opsets = {x.domain: x.version for x in self.model.opset_import}
        try:
            results = ReferenceEvaluator(proto, opsets=opsets).run(
                None, values
            )
        except Exception as error:  # of operators, many kinds
            reason = f'{type(error).__name__}: {error}'.splitlines()[0]
            self.need(False, name, 'constants that can be computed', reason)
        self._constants[name] = np.asarray(next(iter(results)))
        self._taken.update(values)
        return True

    def _only(self, what: str, values: Any) -> tuple[str, list[int]]:
        """Return the name and the shape of the only input or output."""
        names = [each.name for each in values]
        self.need(
            len(names) == 1,
            f'its {what}s',
            f'one {what}',
            f'{len(names)} ({", ".join(names)})',
        )
        tensor = values[0].type.tensor_type
        return names[0], [each.dim_value for each in tensor.shape.dim]

    def _sides(self, shape: list[int]) -> tuple[int, int]:
        self.need(
            len(shape) == 4 and shape[1] == 3 and min(shape[2:]) > 0,
            f'input {self.image!r}',
            'images of three channels whose height and width are fixed, '
            '(batch, 3, height, width)',
            tuple(side or 'free' for side in shape),
        )
        return shape[2], shape[3]


def _load(path: Path) -> 'onnx.ModelProto':
    """Return the content of a file."""
    try:
        import onnx
    except ImportError:
        raise UserError(
            f'{path}: reading it needs onnx, which is not installed: run '
            "pip install 'aqd_mmdet[export]'"
        ) from None
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # of protobuf and of the checker, many kinds
        reason = first_line(error)
        raise UserError(
            f'{path}: it is no valid file of ONNX '
            f'({type(error).__name__}: {reason[:200]})'
        ) from None
    return model


def _shapes(model: 'onnx.ModelProto') -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors for one image; 0 for a free side."""
    from onnx import shape_inference

    model_of_one = type(model)()
    model_of_one.CopyFrom(model)
    del model_of_one.graph.value_info[:]
    # Some files name their constants as inputs as well.
    constants = {x.name for x in model.graph.initializer}
    for each in model_of_one.graph.input:
        sides = each.type.tensor_type.shape.dim
        if len(sides) == 4 and each.name not in constants:
            sides[0].dim_value = 1
    inferred = shape_inference.infer_shapes(model_of_one).graph
    return {
        x.name: tuple(side.dim_value for side in x.type.tensor_type.shape.dim)
        for x in (*inferred.value_info, *inferred.input)
    }
