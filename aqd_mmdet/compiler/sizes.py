"""Whether a captured graph holds for images of all sizes.

The exporter takes a branch on the size of the image, and what a forward
computes of it, as they are for the size that is captured. A program would
compute other maps than the detector, without a word.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from ..patches import patched
from .graph import LAYER, Trace

# At least twice the coarsest stride of mmdet's pyramids, 128. The exporter
# takes a size of one for a constant, so no level may have a side of one.
TRACE_SIZE = (256, 384)
# Images for which calls are compared: a square one, so small that the
# coarsest of mmdet's maps has one pixel, and one that is as high as an engine
# takes them, and higher than wide.
OTHER_SIZES = ((128, 128), (16384, 4096))
# Sides of images, in strides, for which the numbers of a graph are compared.
SIDES = range(1, 9)
_LOGGER = logging.getLogger('torch._subclasses.fake_tensor')


@dataclass(frozen=True)
class Place:
    """A tensor, by when it was first seen."""

    number: int


@dataclass(frozen=True)
class Call:
    """A call of a function of PyTorch that makes tensors or changes one.

    Attributes:
        name: Of the function.
        args: What it was given, flat, with places for tensors; of a layer's
            operator without the shape of its output, which follows.
    """

    name: str
    args: tuple[Any, ...]


class Calls(TorchFunctionMode):
    """Lists the calls that are made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self.made: list[Call] = []
        self._places: dict[int, Place] = {}
        self._seen: list[Tensor] = []  # so that no other gets its id
        self._kept: list[Tensor] = []  # the same, of those with a place

    def add(self, name: str, args: Any) -> None:
        """Append a call.

        Args:
            name: Of what was called.
            args: What it was given, a tree.
        """
        leaves: list[Any] = []
        for x in tree_leaves(args):
            leaves += [x.start, x.stop, x.step] if type(x) is slice else [x]
        self.made.append(Call(name, tuple(map(self._placed, leaves))))

    def _placed(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in self._places:
            self._places[id(leaf)] = Place(len(self._seen))
            self._seen.append(leaf)
        return self._places[id(leaf)]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _does_nothing(func, args, kwargs or {}):
            # Its result may be its operand, or a copy.
            self._kept.append(result)
            self._places[id(result)] = self._placed(args[0])
            return result
        leaves = tree_leaves(result)
        if result is None or any(isinstance(x, Tensor) for x in leaves):
            given = args[:2] if func is LAYER else (args, kwargs)
            self.add(func.__name__, given)
            for leaf in leaves:
                self._placed(leaf)
        return result


_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d}


def _does_nothing(func: Any, args: Any, kwargs: Any) -> bool:
    """Say whether a call is a dropout in evaluation."""
    if func not in _DROPOUTS or not args:
        return False
    return not kwargs.get('training', args[2] if len(args) > 2 else True)


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
        isinstance(value, int | float | str | Place | None) and value != number
        for value, number in zip(symbolic.args, call.args, strict=True)
    )


def recorded(
    network: Callable[[Tensor], Any], calls: Calls
) -> Callable[[Tensor], Any]:
    """Return a network that lists the calls of its last run in ``calls``.

    After these it lists one that is named 'output', with the network's maps.
    """

    def forward(image: Tensor) -> Any:
        calls.clear()
        with calls:
            maps = network(image)
        calls.add('output', maps)
        return maps

    return forward


def need_same_calls(
    detector: nn.Module,
    network: Callable[[Tensor], Any],
    captured: list[Call],
) -> None:
    """Raise if a forward calls other functions for some sizes of images.

    OTHER_SIZES are tried. What a forward does for sizes that are like none of
    these is not seen.

    Args:
        detector: The detector, its layers opaque.
        network: Its maps, as a function of the image.
        captured: The calls of its capture, where sizes are symbols.

    Raises:
        UserError: Naming a size and the first call that is another one, or if
            the forward takes none of the sizes.
    """
    device = next(detector.parameters()).device
    stride = _stride(detector)
    are_taken = False
    for sides in OTHER_SIZES:
        height, width = (-(-side // stride) * stride for side in sides)
        calls, mode = Calls(), FakeTensorMode(allow_non_fake_inputs=True)
        with (
            torch.no_grad(),
            mode,
            _faked(detector, mode),
            patched(_LOGGER, disabled=True),  # it tells of errors beforehand
        ):
            image = torch.zeros(1, 3, height, width, device=device)
            try:
                recorded(network, calls)(image)
            except Exception:  # of the forward itself: it takes no such image
                continue
        are_taken = True
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
    if not are_taken:
        raise UserError(
            f'{type(detector).__name__}: its forward takes images of about '
            f'{TRACE_SIZE[0]} x {TRACE_SIZE[1]} alone, none of '
            + ' or '.join(f'{h} x {w}' for h, w in OTHER_SIZES)
        )


@contextmanager
def _faked(detector: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Let parameters and buffers be without values; what a forward changes of
    these, or of modules' attributes, is as before when the context ends."""
    attributes = [vars(module) for module in detector.modules()]
    tensors: list[dict[str, Any]] = [
        table
        for module in detector.modules()
        for table in (module._parameters, module._buffers)
    ]
    kept = [(table, dict(table)) for table in (*attributes, *tensors)]
    try:
        for table in tensors:
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = mode.from_tensor(tensor)
        yield
    finally:
        for table, content in kept:
            table.clear()
            table.update(content)


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
