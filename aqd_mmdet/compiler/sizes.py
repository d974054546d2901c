"""Whether a captured graph holds for images of all sizes.

The exporter takes a branch on the size of the image, and what a forward
computes of it, as they are for the size that is captured. A program would
compute other maps than the detector, without a word.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import sympy
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from ..patches import patched
from .graph import LAYER, Trace

# At least twice the coarsest stride of mmdet's pyramids, 128. The exporter
# takes a size of one for a constant, so no level may have a side of one.
TRACE_SIZE = (256, 384)
# Larger than photographs, and higher than wide, as TRACE_SIZE is not. Calls
# are compared for it and for the smallest image, a square.
LARGE_SIZE = (8192, 4096)
# Sides of images, in strides, for which the numbers of a graph are compared.
SIDES = range(1, 9)
_LOGGER = logging.getLogger('torch._subclasses.fake_tensor')


@dataclass(frozen=True)
class Call:
    """A call of a function of PyTorch that returns tensors.

    Attributes:
        name: Of the function.
        args: What it was given, flat; of a layer's operator its name alone.
    """

    name: str
    args: tuple[Any, ...]


def differ(call: Call | None, symbolic: Call | None) -> bool:
    """Return whether a call is another one than one with sizes in symbols.

    Args:
        call: With sizes in numbers; None if there is none.
        symbolic: As it was captured.
    """
    if call is None or symbolic is None:
        return True
    if call.name != symbolic.name or len(call.args) != len(symbolic.args):
        return True
    return any(
        isinstance(value, int | float | str) and value != number
        for value, number in zip(symbolic.args, call.args, strict=True)
    )


class Calls(TorchFunctionMode):
    """Lists the calls that are made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Call] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(x, Tensor) for x in tree_leaves(result)):
            leaves = tree_leaves((args, kwargs))
            if func is LAYER:  # its shape follows from its inputs
                leaves = [x for x in leaves if isinstance(x, str)]
            self.made.append(Call(func.__name__, tuple(leaves)))
        return result


def recorded(
    network: Callable[[Tensor], Any], calls: Calls
) -> Callable[[Tensor], Any]:
    """Return a network that lists the calls of its last run in ``calls``."""

    def forward(image: Tensor) -> Any:
        calls.made.clear()
        with calls:
            return network(image)

    return forward


def need_same_calls(
    detector: Any, network: Callable[[Tensor], Any], captured: list[Call]
) -> None:
    """Raise if a forward calls other functions for some sizes of images.

    Two sizes are tried, far from that of the capture. What a forward does for
    sizes between them alone is not seen.

    Args:
        detector: The detector, its layers opaque.
        network: Its maps, as a function of the image.
        captured: The calls of its capture, where sizes are symbols.

    Raises:
        UserError: Naming a size and the first call that is another one.
    """
    device = next(detector.parameters()).device
    for height, width in (2 * (_stride(detector),), LARGE_SIZE):
        calls = Calls()
        with (
            torch.no_grad(),
            FakeTensorMode(allow_non_fake_inputs=True),
            patched(_LOGGER, disabled=True),  # it tells of errors beforehand
        ):
            image = torch.zeros(1, 3, height, width, device=device)
            try:
                recorded(network, calls)(image)
            except Exception:  # of the forward itself: it takes no such image
                continue
        pairs = zip_longest(calls.made, captured)
        if other := next((p for p in pairs if differ(*p)), None):
            name = next(call.name for call in other if call)
            raise UserError(
                f'{type(detector).__name__}: its forward takes other steps '
                f'({name}) for an image of {height} x {width} than for one of '
                f'{TRACE_SIZE[0]} x {TRACE_SIZE[1]}; a program takes the same '
                'for all: let no branch and no number of the forward depend '
                'on the size of the image'
            )


def need_any_size(trace: Trace) -> None:
    """Raise if the numbers of a graph hold only for some sizes of images.

    Args:
        trace: The graph.

    Raises:
        UserError: Naming a size and what does not hold for it.
    """
    stride = _stride(trace.detector)
    (image,) = trace.module.graph.find_nodes(op='placeholder')
    sides = [
        side.node
        for side in image.meta['val'].shape[2:]
        if isinstance(side, torch.SymInt)
    ]
    guards = {guard.expr for side in sides for guard in side.shape_env.guards}
    for guard in guards:
        if not isinstance(guard, sympy.Eq) or not guard.rhs.is_Integer:
            continue
        for count in SIDES:
            side = count * stride
            if not _holds(guard, dict.fromkeys((s.expr for s in sides), side)):
                raise UserError(
                    f'{type(trace.detector).__name__}: its forward computes '
                    f'other numbers for an image of {side} x {side} than for '
                    f'one of {TRACE_SIZE[0]} x {TRACE_SIZE[1]} ({guard}); '
                    'give data_preprocessor.pad_size_divisor, which is '
                    f'{stride}, a multiple of the coarsest stride'
                )


def _holds(guard: sympy.Eq, values: dict[sympy.Symbol, int]) -> bool:
    try:
        return guard.subs(values) is sympy.true
    except ZeroDivisionError:  # of the forward itself
        return False


def _stride(detector: Any) -> int:
    return int(detector.data_preprocessor.pad_size_divisor)
