"""Integer-aware mode: a detector whose network runs as its program would.

In evaluation the program itself runs, so that what is validated is what
ships. In training its codes stand at every quantiser of the simulation, and
gradients pass straight through, as they do through rounding anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from ..integer import program as ir
from ..integer.bounds import prove
from ..integer.compile import fixed_point_of
from ..integer.executor import Executor
from ..integer.fold import Folded, fold
from ..integer.images import image_mean
from ..integer.simulation import Simulation
from ..integer.trace import trace
from ..quantizers.fake_quantize import round_half_up


class IntegerNetwork:
    """The network of a detector, run on integers.

    Args:
        detector: A quantised detector; it is captured once, its weights are
            read at each :meth:`fold`.
        training: Whether its maps are for losses, with gradients, or for
            boxes.

    Raises:
        UserError: If something in it cannot be an integer.
    """

    def __init__(self, detector: nn.Module, training: bool = False) -> None:
        self.training = training
        self.trace = trace(detector, training)
        self.detector = detector
        pre: Any = detector.data_preprocessor
        self.stride = int(pre.pad_size_divisor)
        self.mean = image_mean(detector)
        self.folded = self.fold()

    def fold(self) -> Folded:
        """Make the program of the weights as they are now."""
        fixed_point = fixed_point_of(self.detector)
        folded = fold(self.trace, self.mean, self.stride, fixed_point)
        prove(folded.program)
        self.folded = folded
        self.executor = Executor(
            folded.program, next(self.detector.parameters()).device
        )
        return folded

    def pixels(self, image: Tensor) -> Tensor:
        """Return the bytes that a normalised image (N, C, H, W) stands for."""
        mean = image.new_tensor(self.mean)[:, None, None]
        return round_half_up(image + mean).clamp(0, 255).to(torch.uint8)

    def evaluate(self, image: Tensor) -> tuple[list[Tensor], ...]:
        """Return the program's outputs as real numbers, float32."""
        return self._real(self.executor.run(self.pixels(image)))

    def train(self, image: Tensor) -> tuple[list[Tensor], ...]:
        """Return the same, with gradients to the detector's parameters."""
        program = self.fold().program
        wanted = {n for names in self.folded.codes.values() for n in names}
        codes: dict[str, Tensor] = {}

        def keep(op: ir.Op, values: Tensor) -> None:
            if op.output in wanted:
                codes[op.output] = values

        exact = self._real(self.executor.run(self.pixels(image), keep))

        def replace(
            node: Node,
            operand: int,
            x: Tensor,
            rounded: Tensor,
            quantizer: Any,
        ) -> Tensor:
            name = self.folded.codes[node][operand]
            values = codes[name] * quantizer.step
            return rounded + (values.to(rounded.dtype) - rounded).detach()

        simulated = Simulation(self.trace, replace).run(image)
        assert len(program.outputs) == len(simulated)
        return tuple(
            [s + (e - s).detach() for s, e in zip(maps, right, strict=True)]
            for maps, right in zip(simulated, exact, strict=True)
        )

    def _real(self, outputs: dict[str, Tensor]) -> tuple[list[Tensor], ...]:
        return tuple(
            # In double precision first: a logit has up to 31 bits.
            [(outputs[n].double() * out.scale).float() for n in out.tensors]
            for out in self.folded.program.outputs
        )


@contextmanager
def integer_aware(network: IntegerNetwork) -> Iterator[None]:
    """Let a detector's dense head be given the integer network's maps.

    Args:
        network: Of the detector that changes while the context is open.
    """
    detector: Any = network.detector
    run = network.train if network.training else network.evaluate

    def keep_image(image: Tensor) -> tuple[Tensor]:
        return (image,)

    def maps(features: tuple[Tensor]) -> tuple[list[Tensor], ...]:
        return run(features[0])

    if not network.training:
        network.fold()
    head = detector.bbox_head
    detector.extract_feat, head.forward = keep_image, maps
    try:
        yield
    finally:
        del detector.extract_feat, head.forward
