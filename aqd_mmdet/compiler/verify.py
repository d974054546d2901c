"""How a program and the float simulation compare, layer by layer."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from ..program import ops as ir
from ..quantizers.quantizer import Rounding
from ..runtime.postprocess import propose
from ..runtime.regions import align
from .compile import Compilation
from .executor import Executor
from .fold import Folded
from .graph import LayerCall, Trace
from .simulation import Simulation

# Proposals that are compared; more would show no other codes.
MAX_REGIONS = 64


@dataclass
class Agreement:
    """How the codes of one tensor agree with the simulation's.

    Attributes:
        count: Codes that were compared.
        equal_alike: Of these, equal when the program's layers before are fed
            the simulation's own codes.
        worst_alike: Largest difference of codes then.
        equal_through: Equal when the program runs on by itself.
    """

    count: int = 0
    equal_alike: int = 0
    worst_alike: int = 0
    equal_through: int = 0


def simulated_codes(
    trace: Trace, folded: Folded, image: Tensor
) -> dict[str, Tensor]:
    """Return the codes that the float simulation rounds to.

    Args:
        trace: The network.
        folded: Its program, which names the tensors.
        image: Normalised, float (N, C, H, W).
    """
    seen: dict[str, Tensor] = {}

    def watch(
        call: LayerCall, operand: int, x: Tensor, rounding: Rounding
    ) -> Tensor:
        seen[folded.codes[call.node][operand]] = rounding.codes(x)
        return rounding(x)

    with torch.no_grad():
        Simulation(trace, watch).run(image.clone())
    return seen


def compare(
    trace: Trace,
    folded: Folded,
    pixels: Tensor,
    image: Tensor,
    agreements: dict[str, Agreement],
) -> None:
    """Compare one batch and add to the counts.

    Args:
        trace: The network.
        folded: Its program.
        pixels: uint8 (N, C, H, W).
        image: The same, normalised for the simulation.
        agreements: By tensor, added to.
    """
    simulated = simulated_codes(trace, folded, image)
    executor = Executor(folded.program, image.device)

    def alike(op: ir.Op, values: Tensor) -> Tensor | None:
        expected = simulated.get(op.output)
        if expected is None:
            return None
        # A linear layer's input is flat there, a map here.
        expected = expected.view_as(values)
        difference = (values.int() - expected).abs()
        found = agreements[op.output]
        found.count += values.numel()
        found.equal_alike += int((difference == 0).sum())
        found.worst_alike = max(found.worst_alike, int(difference.max()))
        return expected.to(values.dtype)

    def through(op: ir.Op, values: Tensor) -> None:
        expected = simulated.get(op.output)
        if expected is not None:
            equal = int((values.int() == expected.view_as(values)).sum())
            agreements[op.output].equal_through += equal

    executor.run(pixels, alike)
    executor.run(pixels, through)


def compare_regions(
    made_of: Compilation,
    pixels: Tensor,
    size: tuple[int, int],
    agreements: dict[str, Agreement],
) -> None:
    """Compare a second stage, if there is one, on one image's proposals.

    Args:
        made_of: The compiled detector.
        pixels: uint8 (1, C, H, W).
        size: Height and width of the image before its border.
        agreements: By tensor, added to.
    """
    compiled = made_of.compiled
    if compiled.regions is None:
        return
    outputs = Executor(compiled.program).run(pixels)
    maps = [
        [outputs[name][0].numpy() for name in out.tensors]
        for out in compiled.program.outputs
    ]
    proposals = propose(compiled.postprocess, maps[:2], size)[:MAX_REGIONS]
    for stage, network in zip(
        compiled.regions.stages, made_of.regions, strict=True
    ):
        values = torch.from_numpy(
            align(stage, maps[stage.features], proposals)
        )
        unit = compiled.program.outputs[stage.features].scale / 2**ir.MEAN_BITS
        real = (values.double() * unit).float()
        compare(network.trace, network.folded, values, real, agreements)


def new_agreements() -> dict[str, Agreement]:
    """Return an empty record for :func:`compare`."""
    return defaultdict(Agreement)
