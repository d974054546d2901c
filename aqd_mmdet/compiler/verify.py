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
        equal_per_layer: Of these, equal when the program's layers before are
            given the simulation's own codes.
        worst_per_layer: Largest difference of codes then.
        equal_end_to_end: Equal when the program runs on by itself.
    """

    count: int = 0
    equal_per_layer: int = 0
    worst_per_layer: int = 0
    equal_end_to_end: int = 0


def simulated_codes(
    trace: Trace, folded: Folded, image: Tensor
) -> dict[str, Tensor]:
    """Return the codes that the float simulation rounds to.

    Args:
        trace: The network.
        folded: Its program, which names the tensors.
        image: Normalised, float (N, C, H, W).
    """
    codes_by_tensor: dict[str, Tensor] = {}

    def watch(
        call: LayerCall, operand: int, x: Tensor, rounding: Rounding
    ) -> Tensor:
        codes_by_tensor[folded.codes[call.node][operand]] = rounding.codes(x)
        return rounding(x)

    with torch.no_grad():
        Simulation(trace, watch).run(image.clone())
    return codes_by_tensor


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

    def per_layer(op: ir.Op, values: Tensor) -> Tensor | None:
        expected = simulated.get(op.output)
        if expected is None:
            return None
        # A linear layer's input is flat there, a map here.
        expected = expected.view_as(values)
        difference = (values.int() - expected).abs()
        agreement = agreements[op.output]
        agreement.count += values.numel()
        agreement.equal_per_layer += int((difference == 0).sum())
        agreement.worst_per_layer = max(
            agreement.worst_per_layer, int(difference.max())
        )
        return expected.to(values.dtype)

    def end_to_end(op: ir.Op, values: Tensor) -> None:
        expected = simulated.get(op.output)
        if expected is not None:
            equal = int((values.int() == expected.view_as(values)).sum())
            agreements[op.output].equal_end_to_end += equal

    executor.run(pixels, per_layer)
    executor.run(pixels, end_to_end)


def compare_regions(
    compilation: Compilation,
    pixels: Tensor,
    size: tuple[int, int],
    agreements: dict[str, Agreement],
) -> None:
    """Compare a second stage, if there is one, on one image's proposals.

    Args:
        compilation: The compiled detector, with its graphs.
        pixels: uint8 (1, C, H, W).
        size: Height and width of the image before its border.
        agreements: By tensor, added to.
    """
    compiled = compilation.compiled
    if compiled.regions is None:
        return
    outputs = Executor(compiled.program).run(pixels)
    maps = [
        [outputs[name][0].numpy() for name in out.tensors]
        for out in compiled.program.outputs
    ]
    proposals = propose(compiled.postprocess, maps[:2], size)[:MAX_REGIONS]
    for stage, network in zip(
        compiled.regions.stages, compilation.regions, strict=True
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
