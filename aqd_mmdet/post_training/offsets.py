"""Where a number that is added to a layer's output can be kept."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.operations import run_once


def norms_behind(
    detector: nn.Module, layers: Iterable[nn.Module]
) -> dict[nn.Module, list[Any]]:
    """Return the batch norms with statistics that read what layers make.

    Args:
        detector: Any detector of mmdet, in evaluation mode.
        layers: Some of its layers.

    Returns:
        dict: Of each layer its norms; a layer that levels share may have one
        for each of them.
    """
    norms: dict[nn.Module, list[Any]] = {layer: [] for layer in layers}
    # Outputs are kept, so that no other tensor gets the identity of one.
    made: dict[int, tuple[nn.Module, Tensor]] = {}

    def note(layer: nn.Module, args: Any, output: Tensor) -> None:
        made[id(output)] = layer, output

    def look(norm: Any, args: tuple[Tensor, ...]) -> None:
        layer, _ = made.get(id(args[0]), (None, None))
        if layer is None or norm.running_mean is None:
            return
        if norm not in norms[layer]:
            norms[layer].append(norm)

    with ExitStack() as stack:
        for layer in norms:
            stack.callback(layer.register_forward_hook(note).remove)
        for norm in detector.modules():
            if isinstance(norm, _BatchNorm):
                handle = norm.register_forward_pre_hook(look)
                stack.callback(handle.remove)
        run_once(detector)
    return norms
