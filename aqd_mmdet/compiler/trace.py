"""Captures a network as a graph in which quantised layers are opaque.

PyTorch's exporter sees ATen operators, and our layers as operators of their
own that carry the layer's name: whoever reads the graph finds codes
and steps in the layer. Sizes stay symbolic, so one graph serves all images.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.wrap import wrap_with_autocast
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_unflatten

from ..errors import UserError
from ..layers.activation import QuantActivation
from ..layers.add import QuantAdd
from ..layers.multiply import QuantMultiply
from ..layers.pool import QuantAvgPool, QuantMean
from ..layers.regions import QuantRoIExtractor
from ..layers.weighted import QuantConv2d, QuantLinear

# Two of the coarsest stride of mmdet's pyramids: the exporter takes sizes of
# one for constants, and no level may have a side of one.
TRACE_SIZE = (256, 384)


@torch.library.custom_op('aqd::convolution', mutates_args=())
def convolution(
    x: Tensor,
    name: str,
    channels: int,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """Stand for the layer ``name``; only ever traced."""
    raise NotImplementedError


@convolution.register_fake
def _(
    x: Tensor,
    name: str,
    channels: int,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            x.shape[2:], kernel, stride, padding, dilation, strict=True
        )
    ]
    return x.new_empty(x.shape[0], channels, *size)


@torch.library.custom_op('aqd::addition', mutates_args=())
def addition(x: Tensor, y: Tensor, name: str) -> Tensor:
    """Stand for the adder ``name``; only ever traced."""
    raise NotImplementedError


@addition.register_fake
def _(x: Tensor, y: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op('aqd::activation', mutates_args=())
def activation(x: Tensor, name: str) -> Tensor:
    """Stand for the activation ``name``; only ever traced."""
    raise NotImplementedError


@activation.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op('aqd::product', mutates_args=())
def product(x: Tensor, y: Tensor, name: str) -> Tensor:
    """Stand for the product ``name``; only ever traced."""
    raise NotImplementedError


@product.register_fake
def _(x: Tensor, y: Tensor, name: str) -> Tensor:
    return x * y


@torch.library.custom_op('aqd::average', mutates_args=())
def average(x: Tensor, name: str, kernel: list[int]) -> Tensor:
    """Stand for the pooling ``name``; only ever traced.

    Args:
        x: Map.
        name: Of the layer.
        kernel: Its kernel, stride and padding, six numbers; none for a whole
            map.
    """
    raise NotImplementedError


@average.register_fake
def _(x: Tensor, name: str, kernel: list[int]) -> Tensor:
    size = [1, 1]
    if kernel:
        size = [
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(
                x.shape[2:], kernel[:2], kernel[2:4], kernel[4:], strict=True
            )
        ]
    return x.new_empty(*x.shape[:2], *size)


@torch.library.custom_op('aqd::linear', mutates_args=())
def linear(x: Tensor, name: str, channels: int) -> Tensor:
    """Stand for the layer ``name``; only ever traced."""
    raise NotImplementedError


@linear.register_fake
def _(x: Tensor, name: str, channels: int) -> Tensor:
    return x.new_empty(x.shape[0], channels)


@torch.library.custom_op('aqd::rounding', mutates_args=())
def rounding(x: Tensor, name: str) -> Tensor:
    """Stand for the input of the layer ``name``; only ever traced."""
    raise NotImplementedError


@rounding.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


CONVOLUTION = torch.ops.aqd.convolution.default
ADDITION = torch.ops.aqd.addition.default
ACTIVATION = torch.ops.aqd.activation.default
PRODUCT = torch.ops.aqd.product.default
AVERAGE = torch.ops.aqd.average.default
LINEAR = torch.ops.aqd.linear.default
ROUNDING = torch.ops.aqd.rounding.default


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

    def tensor(self, node: Node) -> Tensor:
        """Return the parameter or buffer that a node of the graph names."""
        owner: Any = self.module
        for part in str(node.target).split('.'):
            owner = getattr(owner, part)
        return owner


class _Network(nn.Module):
    """A detector's maps, as a function of the normalised image."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> Any:
        extractors = region_extractors(self.detector)
        if not extractors:
            return self.detector(image, mode='tensor')
        detector: Any = self.detector
        features = detector.extract_feat(image)
        return (
            *detector.rpn_head(features),
            *(
                tuple(map(reader.features, features[: reader.num_inputs]))
                for reader in extractors
            ),
        )


def dense_head(detector: nn.Module) -> Any:
    """Return what finds boxes, or proposals of a second stage, in maps."""
    name = 'rpn_head' if hasattr(detector, 'roi_head') else 'bbox_head'
    return getattr(detector, name, None)


def region_extractors(detector: nn.Module) -> list[Any]:
    """Return the second stage's extractors; none without such a stage."""
    roi_head: Any = getattr(detector, 'roi_head', None)
    if roi_head is None:
        return []
    found = roi_head.bbox_roi_extractor
    return list(found) if isinstance(found, nn.ModuleList) else [found]


def region_heads(detector: nn.Module) -> list[Any]:
    """Return the second stage's heads, one for each extractor."""
    roi_head: Any = getattr(detector, 'roi_head', None)
    if roi_head is None:
        return []
    found = roi_head.bbox_head
    return list(found) if isinstance(found, nn.ModuleList) else [found]


def trace(detector: nn.Module, for_training: bool = False) -> Trace:
    """Capture a detector, its norms in evaluation mode.

    Args:
        detector: Any module that returns its maps when it is called with
            ``mode='tensor'``; it is not changed.
        for_training: Whether the maps shall be those that its losses read:
            some heads, FCOS's for one, multiply by strides only elsewhere.

    Raises:
        UserError: If the exporter cannot follow its forward.
    """
    _need_capturable(detector)
    network = _Network(detector)
    device = next(detector.parameters()).device
    image = torch.zeros(1, 3, *TRACE_SIZE, device=device)
    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    dense_head(detector).training = for_training
    try:
        return _capture(network, image, sizes, detector)
    finally:
        for module, mode in modes.items():
            module.training = mode


def trace_regions(detector: nn.Module, head: nn.Module, shape: Any) -> Trace:
    """Capture one head of a detector's second stage.

    Args:
        detector: The detector, in evaluation mode.
        head: One of its :func:`region_heads`.
        shape: Channels, height and width of a region.

    Raises:
        UserError: If the exporter cannot follow its forward.
    """
    device = next(head.parameters()).device
    regions = torch.zeros(2, *shape, device=device)
    return _capture(head, regions, {0: torch.export.Dim.AUTO}, detector)


def _capture(
    network: nn.Module, x: Tensor, dynamic: dict[int, Any], detector: nn.Module
) -> Trace:
    try:
        with _opaque(detector), torch.no_grad():
            exported = torch.export.export(
                network, (x,), dynamic_shapes=(dynamic,), strict=False
            )
    except Exception as error:  # the exporter raises many kinds
        reason = (str(error).strip().splitlines() or [''])[0]
        raise UserError(
            f'{type(detector).__name__} cannot be captured as a graph '
            f'({type(error).__name__}: {reason[:200]})'
        ) from error
    module = exported.module()
    _inline_autocast(module)
    (nodes,) = next(
        node.args for node in module.graph.nodes if node.op == 'output'
    )
    results = tree_unflatten(nodes, exported.call_spec.out_spec)
    groups = tuple(
        (maps,) if isinstance(maps, Node) else tuple(maps) for maps in results
    )
    return Trace(module, groups, detector)


def _need_capturable(detector: nn.Module) -> None:
    """Raise if a detector is of a kind that no program can be."""
    kind = type(detector).__name__
    if dense_head(detector) is None:
        raise UserError(
            f'{kind} has neither a dense head (bbox_head) nor proposals and '
            'regions (rpn_head, roi_head): only such detectors are compiled'
        )
    for name, module in detector.named_modules():
        if name.startswith('roi_head.mask_'):
            continue  # masks are no part of a program
        layer = type(module).__name__
        if 'Deform' in layer:
            raise UserError(
                f'{name}: {layer} reads its input between pixels, where no '
                'integer operator does'
            )
        if isinstance(module, (nn.LayerNorm, nn.MultiheadAttention)):
            raise UserError(
                f'{name}: {layer} is part of a transformer, for which there '
                'are no integer operators'
            )
    for extractor in region_extractors(detector):
        if not isinstance(extractor, QuantRoIExtractor):
            raise UserError(
                f'roi_head.bbox_roi_extractor ({type(extractor).__name__}) '
                'stays float: quantise it by a rule of the recipe, '
                "dict(modules='roi_head.bbox_roi_extractor*', pool=dict()), "
                'which knows SingleRoIExtractor'
            )


def _inline_autocast(module: Any) -> None:
    """Put the bodies of autocast contexts, captured as graphs of their own,
    in their place; the types of floats mean nothing to a program."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is not wrap_with_autocast:
            continue
        body, *args = node.args[4:]
        inner = getattr(module, body.target).graph
        inputs = inner.find_nodes(op='placeholder')
        with graph.inserting_before(node):
            results = graph.graph_copy(
                inner, dict(zip(inputs, args, strict=True))
            )
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
    module.recompile()


def _convolve(layer: QuantConv2d, name: str, x: Tensor) -> Tensor:
    padding: Any = layer.padding
    if isinstance(padding, str) or layer.padding_mode != 'zeros':
        raise UserError(
            f'{name}: padding={padding!r}, {layer.padding_mode}: a program '
            'pads with zeros, by a number of pixels'
        )
    return convolution(
        x,
        name,
        layer.out_channels,
        list(layer.kernel_size),
        list(layer.stride),
        list(padding),
        list(layer.dilation),
    )


def _add(layer: QuantAdd, name: str, x: Tensor, y: Tensor) -> Tensor:
    return addition(x, y, name)


def _activate(layer: QuantActivation, name: str, x: Tensor) -> Tensor:
    return activation(x, name)


def _multiply(layer: QuantMultiply, name: str, x: Tensor, y: Tensor) -> Tensor:
    return product(x, y, name)


def _average(layer: QuantAvgPool, name: str, x: Tensor) -> Tensor:
    sizes = (*layer.kernel_size, *layer.stride, *layer.padding)
    return average(x, name, list(sizes))


def _mean(layer: QuantMean, name: str, x: Tensor) -> Tensor:
    return average(x, name, [])


def _connect(layer: QuantLinear, name: str, x: Tensor) -> Tensor:
    if x.ndim != 2:
        raise UserError(
            f'{name}: it reads a tensor of {x.ndim} dimensions; a program '
            'has linear layers of whole regions and maps alone'
        )
    return linear(x, name, layer.out_features)


def _round(layer: QuantRoIExtractor, name: str, x: Tensor) -> Tensor:
    return rounding(x, name)


_STANDS: dict[type, Callable] = {
    QuantConv2d: _convolve,
    QuantAdd: _add,
    QuantActivation: _activate,
    QuantMultiply: _multiply,
    QuantAvgPool: _average,
    QuantMean: _mean,
    QuantLinear: _connect,
}


@contextmanager
def _opaque(detector: nn.Module) -> Iterator[None]:
    """Let quantised layers be called as opaque operators."""
    changed: list[tuple[Any, str]] = []
    for name, layer in detector.named_modules():
        stand = _STANDS.get(type(layer))
        if stand is not None:
            changed.append((layer, 'forward'))
        elif isinstance(layer, QuantRoIExtractor):
            stand = _round
            changed.append((layer, 'features'))
        else:
            continue
        setattr(*changed[-1], partial(stand, layer, name))
    try:
        yield
    finally:
        for layer, method in changed:
            delattr(layer, method)
