"""A captured network: a graph in which quantised layers are opaque."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .values import stride_of


@torch.library.custom_op('aqd::layer', mutates_args=())
def layer_operator(
    inputs: Sequence[Tensor], name: str, shape: Sequence[int]
) -> Tensor:
    """Stand for a call of the layer ``name``; only ever traced.

    Args:
        inputs: Its operands.
        name: In the detector.
        shape: Of its output.
    """
    raise NotImplementedError


@layer_operator.register_fake
def _(inputs: Sequence[Tensor], name: str, shape: Sequence[int]) -> Tensor:
    return inputs[0].new_empty(shape)


LAYER = torch.ops.aqd.layer.default


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer in a graph.

    Attributes:
        node: The call.
        name: Of the layer in the detector.
        inputs: Its operands.
    """

    node: Node
    name: str
    inputs: tuple[Node, ...]


def layer_call(node: Node) -> LayerCall | None:
    """Return the call of a layer that a node is, None if it is another."""
    if node.target != LAYER:
        return None
    inputs: Any = node.args[0]
    return LayerCall(node, str(node.args[1]), tuple(inputs))


@dataclass(frozen=True)
class Exponential:
    """An output of a network, ``exp(exponent) * factor``.

    Attributes:
        nodes: The operators that make it of its exponent; nobody else reads
            what they make.
        exponent: What it is the exponential of.
        factor: Above 0.
    """

    nodes: tuple[Node, ...]
    exponent: Node
    factor: float


def exponential(output: Node, trace: 'Trace') -> Exponential | None:
    """Return the exponential that an output is, None if it is another.

    Args:
        output: Of the network.
        trace: The network; factors may be its parameters.
    """
    node, nodes, factor = output, [output], 1.0
    while len(_readers(node)) == 1:
        operands = [x for x in node.all_input_nodes if not is_constant(x)]
        if len(operands) != 1:
            break
        (operand,) = operands
        if node.target is torch.ops.aten.exp.default:
            return Exponential(tuple(nodes), operand, factor)
        by = _factor(node, trace)
        if by is None or by <= 0:
            break
        factor *= by
        node = operand
        nodes.append(node)
    return None


def _readers(node: Node) -> list[Node]:
    """Return who reads the values of a node; the exporter's checks do not."""
    check = torch.ops.aten._assert_tensor_metadata.default
    return [user for user in node.users if user.target is not check]


def _factor(node: Node, trace: 'Trace') -> float | None:
    """Return the number that a node multiplies by, None if it does else."""
    if node.target is torch.ops.aten.to.dtype:
        # The type of floats means nothing to a program.
        return 1.0 if node.meta['val'].is_floating_point() else None
    if node.target is not torch.ops.aten.mul.Tensor:
        return None
    first, second = node.args
    is_first = not isinstance(first, Node) or is_constant(first)
    by: Any = first if is_first else second
    if isinstance(by, Node) and not is_constant(by):
        return None  # a map, as of a square
    value = constant(by, trace) if isinstance(by, Node) else by
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else None
    return float(value)


_ATEN = torch.ops.aten
# Operators whose result is the memory of their operand, or a part of it.
_VIEWS = (
    *(_ATEN.contiguous.default, _ATEN.to.dtype, _ATEN.detach.default),
    *(_ATEN.alias.default, _ATEN.slice.Tensor),
    *(_ATEN.dropout.default, _ATEN.feature_dropout.default),
    *(_ATEN.flatten.using_ints, _ATEN.split.Tensor, _ATEN.chunk.default),
    *(_ATEN.split_with_sizes.default, operator.getitem),
)


def changes_another(node: Node) -> bool:
    """Say whether an operator in place changes what others read later.

    Its operand may be a view of another tensor, or have views.

    Args:
        node: The operator; whoever reads its operand itself does not count.
    """
    (operand, *_) = node.all_input_nodes
    base = operand
    while base.target in _VIEWS:
        base = base.all_input_nodes[0]
    names = [base]
    for name in names:
        names += [user for user in name.users if user.target in _VIEWS]
    return any(
        user > node and user.target not in _VIEWS
        for name in names
        if name is not operand
        for user in name.users
    )


@dataclass(frozen=True)
class Trace:
    """A captured network.

    Attributes:
        module: Its graph; it shares its parameters with the network.
        outputs: Nodes of the output, grouped as the network returned them.
        detector: The network that was captured.
    """

    module: GraphModule
    outputs: tuple[tuple[Node, ...], ...]
    detector: nn.Module

    @property
    def stride(self) -> int:
        """Sides of images are multiples of it, in pixels."""
        detector: Any = self.detector
        return int(detector.data_preprocessor.pad_size_divisor)

    @cached_property
    def running_stride(self) -> int:
        """A multiple of the stride with which the network runs."""
        return stride_of(self.module.graph, self.stride)

    @cached_property
    def layers(self) -> Mapping[str, Any]:
        """The layers of the network by name."""
        return dict(self.detector.named_modules())

    def tensor(self, node: Node) -> Tensor:
        """Return the parameter or buffer that a node of the graph names."""
        owner: Any = self.module
        for part in str(node.target).split('.'):
            owner = getattr(owner, part)
        return owner


def is_constant(node: Node) -> bool:
    """Say whether a node is a parameter, or computed of such alone."""
    return node.op == 'get_attr' or (
        node.op == 'call_function'
        and node.target is not LAYER
        and not _is_known_when_run(node)
        and all(map(is_constant, node.all_input_nodes))
    )


def _is_known_when_run(node: Node) -> bool:
    schema = getattr(node.target, '_schema', None)
    in_place = schema is not None and schema.is_mutable
    # The exporter makes it of literals, and it changes no value.
    in_place &= node.target is not _ATEN.detach_.default
    tags = getattr(node.target, 'tags', ())
    return in_place or torch.Tag.nondeterministic_seeded in tags


def constant(node: Node, trace: Trace) -> Any:
    """Return what a constant is now; see :func:`is_constant`."""
    if node.op == 'get_attr':
        return trace.tensor(node)
    target: Any = node.target
    with torch.no_grad():
        return target(
            *map_arg(node.args, lambda x: constant(x, trace)),
            **map_arg(node.kwargs, lambda x: constant(x, trace)),
        )
