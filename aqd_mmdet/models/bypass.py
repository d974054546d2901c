"""Finding layers that are passed by: their weights are used, they are not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _Uses(TorchFunctionMode):
    """Notes which of some tensors any function is given."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.used: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        for x in (*args, *(kwargs or {}).values()):
            if isinstance(x, Tensor) and id(x) in self.names:
                self.used.add(self.names[id(x)])
        return func(*args, **(kwargs or {}))


@contextmanager
def find_bypassed(layers: Mapping[str, nn.Module]) -> Iterator[set[str]]:
    """Watch for layers whose owner computes with their weights by itself.

    TOOD's heads multiply the weights of a convolution by an attention before
    they multiply the map. What stands in such a layer's place would never
    run, and nothing would be quantised there.

    Args:
        layers: The layers by name, each with a weight; their model is run
            inside the context.

    Yields:
        set: Names of such layers, filled when the context ends.
    """
    called: set[str] = set()
    bypassed: set[str] = set()
    handles = []
    for name, layer in layers.items():

        def note(module: nn.Module, args: tuple, name: str = name) -> None:
            called.add(name)

        handles.append(layer.register_forward_pre_hook(note))
    weights: dict[int, str] = {}
    for name, layer in layers.items():
        weight: Any = layer.weight
        weights[id(weight)] = name
    try:
        with _Uses(weights) as uses:
            yield bypassed
        bypassed |= uses.used - called
    finally:
        for handle in handles:
            handle.remove()
