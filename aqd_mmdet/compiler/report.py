"""What a compilation came to, for people and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..program import ops as ir
from ..program.bounds import prove
from .verify import Agreement


@dataclass(frozen=True)
class LayerReport:
    """One convolution of a program.

    Attributes:
        name: Of its accumulators.
        weight_bits: Width of its weights.
        weight_codes: Distinct weight codes that occur.
        input_codes: Distinct input codes that are possible.
        headroom: Bits that its accumulators leave of 31.
        equal_per_layer: Share of its input codes that equal the simulation's
            when the layers before are fed the simulation's codes; None if
            nothing was compared or its input is another's.
        worst_per_layer: Largest difference of codes then.
        equal_end_to_end: The share when the program runs by itself.
    """

    name: str
    weight_bits: int
    weight_codes: int
    input_codes: int
    headroom: float
    equal_per_layer: float | None
    worst_per_layer: int | None
    equal_end_to_end: float | None


@dataclass(frozen=True)
class Sizes:
    """Bytes of a detector.

    Attributes:
        float32: Its state dict.
        float16: The same in half precision.
        packed: The file.
    """

    float32: int
    float16: int
    packed: int


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        layers: One for each call of a convolution.
        sizes: Bytes.
        codes: Number of codes compared with the simulation.
        equal_per_layer: Share of all compared codes, where each layer is
            given the simulation's.
        worst_per_layer: Largest difference then.
        equal_end_to_end: Share of all compared codes, end to end.
        metrics: COCO metrics of the program, if evaluated.
    """

    layers: tuple[LayerReport, ...]
    sizes: Sizes
    codes: int
    equal_per_layer: float | None
    worst_per_layer: int | None
    equal_end_to_end: float | None
    metrics: Mapping[str, float]


def float32_bytes(model: nn.Module) -> int:
    """Return the size of a model's floating-point state."""
    return sum(
        4 * t.numel()
        for t in model.state_dict().values()
        if t.is_floating_point()
    )


def make_report(
    programs: Sequence[ir.Program],
    agreements: Mapping[str, Agreement],
    sizes: Sizes,
    metrics: Mapping[str, float],
) -> Report:
    """Put a report together.

    Args:
        programs: The network's, and those of a second stage.
        agreements: From the comparison, by tensor; may be empty.
        sizes: Bytes.
        metrics: COCO metrics, or nothing.
    """
    total = sum(a.count for a in agreements.values())
    per_layer = sum(a.equal_per_layer for a in agreements.values())
    end_to_end = sum(a.equal_end_to_end for a in agreements.values())
    return Report(
        tuple(x for p in programs for x in _layers(p, agreements)),
        sizes,
        total,
        per_layer / total if total else None,
        max((a.worst_per_layer for a in agreements.values()), default=None),
        end_to_end / total if total else None,
        metrics,
    )


def _layers(
    program: ir.Program, agreements: Mapping[str, Agreement]
) -> Iterator[LayerReport]:
    headroom = {bound.name: bound.headroom for bound in prove(program)}
    by_output = {op.output: op for op in program.ops}
    for op in program.ops:
        if not isinstance(op, ir.Convolution):
            continue
        weights = program.weights[op.weights]
        grid = by_output[op.inputs[0]].grid
        agreement = agreements.get(op.inputs[0])
        yield LayerReport(
            op.output,
            weights.bits,
            len(np.unique(weights.codes)),
            grid.hi - grid.lo + 1,
            round(headroom[op.output], 2),
            None
            if agreement is None
            else agreement.equal_per_layer / agreement.count,
            None if agreement is None else agreement.worst_per_layer,
            None
            if agreement is None
            else agreement.equal_end_to_end / agreement.count,
        )


def lines(report: Report) -> Iterator[str]:
    """Yield a report as a table."""
    width = max(len(layer.name) for layer in report.layers)
    yield (
        f'{"layer":{width}} {"bits":>5}{"weights":>9}{"inputs":>8}'
        f'{"headroom":>10}{"by layer":>12}{"end to end":>12}'
    )
    for x in report.layers:
        yield (
            f'{x.name:{width}} {x.weight_bits:5}{x.weight_codes:9}'
            f'{x.input_codes:8}{x.headroom:10.1f}'
            f'{_share(x.equal_per_layer)}{_share(x.equal_end_to_end)}'
        )
    yield ''
    if report.codes:
        yield (
            f'{report.codes} codes compared with the float simulation: '
            f'{report.equal_per_layer:.6%} equal where each layer is given '
            "the simulation's codes, none off by more than "
            f'{report.worst_per_layer}; '
            f'{report.equal_end_to_end:.6%} end to end'
        )
    sizes = report.sizes
    yield (
        f'size: float32 {sizes.float32 / 2**20:.2f} MiB, float16 '
        f'{sizes.float16 / 2**20:.2f}, this file {sizes.packed / 2**20:.2f} '
        f'(1/{sizes.float32 / sizes.packed:.1f})'
    )
    for name, value in report.metrics.items():
        yield f'{name}: {value}'


def _share(share: float | None) -> str:
    return f'{"":>12}' if share is None else f'{share:12.5%}'
