"""Captures a network as a graph in which quantised layers are opaque.

PyTorch's exporter sees ATen operators, and each of our layers as one
operator that carries the layer's name: whoever reads the graph finds codes
and steps in the layer. Sizes stay symbolic, so one graph serves all images.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.wrap import wrap_with_autocast
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._pytree import tree_leaves, tree_unflatten

from ..errors import UserError, first_line
from ..layers.kinds import are_tensors
from ..layers.regions import QuantRoIExtractor
from ..patches import patched
from .graph import Trace, layer_operator
from .lowering import LAYER_RULES
from .sizes import TRACE_SIZE, Calls, need_any_size, need_same_calls, recorded

_LOGGER = logging.getLogger('torch.fx.experimental.symbolic_shapes')


class _Network(nn.Module):
    """A detector's maps, as a function of the normalised image."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> Any:
        extractors = region_extractors(self.detector)
        if not extractors:
            return _without_nothing(self.detector(image, mode='tensor'))
        detector: Any = self.detector
        features = detector.extract_feat(image)
        return (
            *detector.rpn_head(features),
            *(
                tuple(
                    map(
                        extractor.input_quantizer,
                        features[: extractor.num_inputs],
                    )
                )
                for extractor in extractors
            ),
        )


def _without_nothing(maps: Any) -> Any:
    """Return what a network returns without outputs at its end that are
    None, of all levels: heads have these in place of maps that they lack."""
    if not isinstance(maps, tuple | list):
        return maps
    count = len(maps)
    while count and not any(
        x is not None for x in tree_leaves(maps[count - 1])
    ):
        count -= 1
    return tuple(maps[:count])


def dense_head(detector: nn.Module) -> Any:
    """Return what finds boxes, or proposals of a second stage, in maps."""
    name = 'rpn_head' if hasattr(detector, 'roi_head') else 'bbox_head'
    return getattr(detector, name, None)


def region_extractors(detector: nn.Module) -> list[Any]:
    """Return the second stage's extractors; none without such a stage."""
    return _of_second_stage(detector, 'bbox_roi_extractor')


def region_heads(detector: nn.Module) -> list[Any]:
    """Return the second stage's heads, one for each extractor."""
    return _of_second_stage(detector, 'bbox_head')


def _of_second_stage(detector: nn.Module, name: str) -> list[Any]:
    roi_head: Any = getattr(detector, 'roi_head', None)
    if roi_head is None:
        return []
    modules = getattr(roi_head, name)
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def trace(detector: nn.Module, for_training: bool = False) -> Trace:
    """Capture a detector, its norms in evaluation mode.

    Args:
        detector: Any module that returns its maps when it is called with
            ``mode='tensor'``; it is not changed.
        for_training: Whether the maps shall be those that its losses read:
            some heads, FCOS's for one, multiply by strides only elsewhere.

    Raises:
        UserError: If the exporter cannot follow its forward, or its forward
            is another one for images of some sizes.
    """
    need_compilable(detector)
    _need_quantised_extractors(detector)
    network = _Network(detector)
    device = next(detector.parameters()).device
    image = torch.zeros(1, 3, *TRACE_SIZE, device=device)
    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    calls = Calls()
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    dense_head(detector).training = for_training
    try:
        with patched(network, forward=recorded(network.forward, calls)):
            trace = _capture(network, image, sizes, detector)
        need_any_size(trace)
        with _opaque(detector):
            need_same_calls(detector, network, calls.made)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return trace


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
        with (
            _opaque(detector),
            torch.no_grad(),
            # Of what fails, the exporter prints the whole graph.
            redirect_stderr(StringIO()),
            patched(_LOGGER, disabled=True),
        ):
            exported = torch.export.export(
                network, (x,), dynamic_shapes=(dynamic,), strict=False
            )
    except UserError:
        raise
    except GuardOnDataDependentSymNode:
        raise UserError(
            f'{type(detector).__name__}: its forward takes another branch for '
            'other values of a map; a program takes the same for all'
        ) from None
    except Exception as error:  # the exporter raises many kinds
        reason = first_line(error)
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
    for number, maps in enumerate(results):
        if any(not isinstance(x, Node) for x in tree_leaves(maps)):
            raise UserError(
                f'{type(detector).__name__}: output {number} of its head is '
                'None, or another thing than a map, on some level: only maps '
                'leave a program; return None last, or not at all'
            )
    groups = tuple(
        (maps,) if isinstance(maps, Node) else tuple(maps) for maps in results
    )
    return Trace(module, groups, detector)


def need_compilable(detector: nn.Module) -> None:
    """Raise if a detector is of a kind that no program can be.

    Args:
        detector: Of any kind, quantised or float.

    Raises:
        UserError: Naming what has no integers.
    """
    for name, module in detector.named_modules():
        if name.startswith('roi_head.mask_'):
            continue  # masks are no part of a program
        for cls in type(module).__mro__:
            reason = _WITHOUT_INTEGERS.get(cls.__name__)
            if reason is not None:
                raise UserError(f'{name}: {type(module).__name__} {reason}')
    if dense_head(detector) is None:
        raise UserError(
            f'{type(detector).__name__} has neither a dense head (bbox_head) '
            'nor proposals and regions (rpn_head, roi_head): only such '
            'detectors are compiled'
        )


_BETWEEN_PIXELS = (
    'reads its input between pixels, where no integer operator does'
)
_TRANSFORMER = (
    'is part of a transformer, for which there are no integer operators'
)
# By the class of a layer, why no program can have it.
_WITHOUT_INTEGERS = {
    'DeformConv2d': _BETWEEN_PIXELS,
    'ModulatedDeformConv2d': _BETWEEN_PIXELS,
    'DeformRoIPool': _BETWEEN_PIXELS,
    'LayerNorm': _TRANSFORMER,
    'MultiheadAttention': _TRANSFORMER,
    'TOODHead': 'moves its boxes between pixels and makes weights of a '
    'convolution for each image: no integer operator does either',
}


def _need_quantised_extractors(detector: nn.Module) -> None:
    """Raise if a second stage would read its regions in float."""
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


@contextmanager
def _opaque(detector: nn.Module) -> Iterator[None]:
    """Let the layers that have rules be called as opaque operators."""
    with ExitStack() as stack:
        for name, layer in detector.named_modules():
            if type(layer) in LAYER_RULES:
                forward = partial(_stand_in, layer, name)
                stack.enter_context(patched(layer, forward=forward))
        yield


def _stand_in(layer: Any, name: str, *inputs: Any) -> Tensor:
    if not are_tensors(*inputs):
        return type(layer).forward(layer, *inputs)  # a number and a map
    try:
        shape = layer.output_shape(*(x.shape for x in inputs))
    except UserError as error:
        raise UserError(f'{name}: {error}') from None
    return layer_operator(inputs, name, shape)
