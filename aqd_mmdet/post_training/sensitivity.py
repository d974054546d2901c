"""How much the rounding of each layer changes a detector's outputs."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..models.quantized_detector import quantized_layers
from .calibration import run


class _Error:
    """Multiplies what rounding adds to a layer's outputs by a gradient.

    It is a hook of the float layer, whose inputs both are given.

    Args:
        layer: The quantised layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        # Of all calls for a picture: heads have one for each level.
        self.product = 0.0
        self.squares = 0.0
        self.is_reached = False

    def __call__(
        self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> None:
        with torch.no_grad():
            error = self.layer(*args) - output

        def multiply(gradient: Tensor) -> None:
            self.product += float((gradient * error).sum())
            self.is_reached = True

        output.register_hook(multiply)

    def next_picture(self) -> None:
        self.squares += self.product**2
        self.product = 0.0


def output_noise(
    student: Any, teacher: Any, pictures: Iterable[Tensor]
) -> dict[str, float]:
    """Return the noise that each layer's rounding makes in the outputs.

    The outputs are followed to first order. Of the error e of a layer and the
    outputs' derivatives J by the layer, |Je|^2 is wanted. It is the mean of
    (e . J'v)^2 over random signs v (Hutchinson), so that one backward pass
    for each picture serves all layers. It is the Gauss-Newton form of the
    Hessian that HAWQ-V2 weighs noise with (Dong et al., 2020, section 3);
    here the error itself is multiplied, and not a trace by its square, since
    the errors of neighbouring pixels are not independent.

    Args:
        student: The quantised detector.
        teacher: The float detector.
        pictures: As of :func:`~.calibration.calibrate`.

    Returns:
        dict: By the names of the quantised layers: the mean square of what
        the layer alone adds to an output map, as a share of the map's
        variance, averaged over maps and pictures. Layers that no output
        depends on are left out.
    """
    teacher = deepcopy(teacher).requires_grad_(False)
    errors = {n: _Error(x) for n, x in quantized_layers(student).items()}
    generator = torch.Generator().manual_seed(0)
    count = 0
    with ExitStack() as stack:
        for name, error in errors.items():
            module = teacher.get_submodule(name)
            handle = module.register_forward_hook(error)
            stack.callback(handle.remove)
        for picture in pictures:
            # Layers with frozen weights have gradients by their inputs.
            maps = real_maps(teacher, picture.clone().requires_grad_())
            _probe(maps, generator).backward()
            for error in errors.values():
                error.next_picture()
            count += 1
    return {
        name: error.squares / count
        for name, error in errors.items()
        if error.is_reached
    }


def _probe(maps: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Return the sum of normalised maps by random signs."""
    total = maps[0].new_zeros(())
    for x in maps:
        signs = torch.randint(2, x.shape, generator=generator) * 2 - 1
        scale = (x.numel() * len(maps) * variance(x)).sqrt()
        total = total + (x * signs.to(x)).sum() / scale
    return total


def variance(x: Tensor) -> Tensor:
    """Return by what the noise of a map is divided."""
    # Maps of one number have none.
    return x.detach().var(unbiased=False).clamp_min(1e-6)


def real_maps(detector: Any, picture: Tensor) -> list[Tensor]:
    """Return all maps that a detector makes of a picture.

    Args:
        detector: Any detector of mmdet.
        picture: As of :func:`~.calibration.calibrate`.
    """
    outputs: list[Any] = []
    with ExitStack() as stack:
        if hasattr(detector, 'rpn_head'):
            # Two-stage detectors return the maps of their second stage alone.
            handle = detector.rpn_head.register_forward_hook(
                lambda module, args, output: outputs.append(output)
            )
            stack.callback(handle.remove)
        outputs.append(run(detector, picture))
    return list(flat_maps(outputs))


def flat_maps(outputs: Any) -> Iterator[Tensor]:
    """Yield the maps of real numbers in what a detector returns, in order."""
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point() and outputs.numel():
            yield outputs
    elif isinstance(outputs, dict):
        yield from flat_maps(list(outputs.values()))
    elif isinstance(outputs, (list, tuple)):
        for each in outputs:
            yield from flat_maps(each)
