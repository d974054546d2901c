"""Outputs that are made only where candidates are: equal to complete ones."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    Anchors,
    CompiledDetector,
    Points,
    Sigmoid,
)
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import Detections, Detector, reference
from aqd_mmdet.runtime.engine import Engine
from tests import kernels
from tests.factories import noise
from tests.random_detectors import SCORES, random_detector

# Of weights and codes; 2 and 3 are for lookups and Winograd's bytes.
BITS = (2, 3, 4, 8)
WIDTHS = (16, 33, 64)


class Towers:
    """Puts convolutions of random kinds before each output of a detector.

    Args:
        compiled: A detector whose outputs are 1 x 1 convolutions of an image.
        seed: Of what is random.
        extreme: Whether weights are the largest and smallest ones alone.
    """

    def __init__(
        self, compiled: CompiledDetector, seed: int, extreme: bool
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.extreme = extreme
        self.ops: list[ir.Op] = []
        self.weights: dict[str, ir.Weights] = {}
        made = {op.output: op for op in compiled.program.ops}
        for op in compiled.program.ops:
            if isinstance(op, ir.Convolution):
                self.tower(op, made[op.inputs[0]])
            else:
                self.ops.append(op)

    def tower(self, last: ir.Convolution, x: ir.Op) -> None:
        bits, width = self.rng.choice(BITS), self.rng.choice(WIDTHS)
        for i in range(self.rng.integers(1, 5)):
            name = f'{last.output}.{i}'
            sums = self.convolve(name, x, int(width), 8 if i == 0 else bits)
            x = self.requantize(f'{name}.codes', sums, x, int(bits))
        self.convolve(last.output, x, last.channels, 8)

    def convolve(
        self, name: str, x: ir.Op, channels: int, bits: int
    ) -> ir.Convolution:
        side, dilation = self.rng.choice([(1, 1), (3, 1), (3, 2), (5, 1)])
        is_depthwise = channels == x.channels and self.rng.random() < 0.2
        groups = channels if is_depthwise else 1
        shape = (channels, x.channels // groups, side, side)
        most = 127 if bits == 8 else 2**bits - 1
        steps = np.arange(-most, most + 1, 1 if bits == 8 else 2)
        if self.extreme:
            steps = steps[[0, -1]]
        codes = self.rng.choice(steps, shape).astype(np.int8)
        self.weights[name] = ir.Weights.of(codes, int(bits))
        padding = int(dilation) * (int(side) // 2)
        op = ir.Convolution(
            name, (x.output,), channels, ir.INT32, (int(side),) * 2, (1, 1),
            (padding,) * 2, (int(dilation),) * 2, name, groups,
        )  # fmt: skip
        self.ops.append(op)
        return op

    def requantize(
        self, name: str, sums: ir.Convolution, x: ir.Op, bits: int
    ) -> ir.Requantize:
        """About as large as the codes of the grid."""
        grid = ir.Grid(0, 2**bits - 1)
        typical = np.sqrt(self.weights[sums.weights].codes[0].size)
        typical *= 2.0 ** (8 if x.grid.lo < 0 else bits) * 2**bits / 4
        count = sums.channels if self.rng.random() < 0.7 else 1
        table = Multipliers(
            self.rng.integers(2**13, 2**14, count).astype(np.int32),
            self.rng.integers(0, 2**14 * grid.hi, count),
            np.full(count, 14 + max(0, int(np.log2(typical / grid.hi))), 'u1'),
        )
        op = ir.Requantize(name, (sums.output,), sums.channels, grid, table)
        self.ops.append(op)
        return op


def detectors(scores: type, seeds: range) -> Iterator[CompiledDetector]:
    for seed in seeds:
        decoder = (Anchors, Points)[seed % 2]
        compiled = random_detector(seed, decoder, scores)
        towers = Towers(compiled, seed, extreme=seed % 3 == 0)
        program = replace(
            compiled.program, ops=tuple(towers.ops), weights=towers.weights
        )
        yield replace(compiled, program=program)


def thresholds(
    compiled: CompiledDetector, maps: dict[str, np.ndarray]
) -> list[int]:
    """For no candidates, few, many, and as many as there can be."""
    if not isinstance(compiled.postprocess.scores, Sigmoid):
        return [2**45, 2**40, 2**30, 0]
    names = compiled.program.outputs[0].tensors
    logits = np.concatenate([maps[name].ravel() for name in names])
    few, many = np.quantile(logits, [0.99, 0.5]).astype(int).tolist()
    return [int(logits.max()) + 1, few, many, int(logits.min())]


def check(compiled: CompiledDetector, image: np.ndarray, run) -> int:
    """Compare with boxes of complete outputs; return how many there are."""
    expected = Detector(compiled, run=run)(image)
    found: Detections = Detector(compiled, threads=2)(image)
    for values, wanted in zip(found, expected, strict=True):
        assert np.array_equal(values, wanted)
    return len(found.labels)


@pytest.mark.parametrize('isa', ['portable', 'avx2', 'avx512', 'amx', 'neon'])
@pytest.mark.parametrize('scores', SCORES)
def test_boxes_of_complete_outputs(isa, scores):
    if isa not in kernels.names():
        pytest.skip(f'this machine has no {isa}')
    counts = []
    # Portable kernels are slow, and know neither tiles nor strips.
    seeds = range(4 if isa == 'portable' else 8)
    for seed, compiled in enumerate(detectors(scores, seeds)):
        image = noise(seed, 30, 40)
        with kernels.chosen(isa):
            engine = Engine(compiled, file.to_bytes(compiled), 1)
            kept: dict[str, np.ndarray] = {}

            def run(program, pixels, engine=engine, kept=kept):
                kept.update(engine.run(program, pixels))
                return kept

            Detector(compiled, run=run)(image)
            for threshold in thresholds(compiled, kept):
                post = replace(compiled.postprocess, threshold=threshold)
                each = replace(compiled, postprocess=post)
                counts.append(check(each, image, run))
    assert min(counts) == 0
    assert len(set(counts)) > 3


@pytest.mark.parametrize('level', [0, 1])
def test_logits_that_are_box_codes_as_well(level):
    """Their memory is not for what the tower of another level makes."""
    found = 0
    for seed, compiled in enumerate(detectors(Sigmoid, range(200, 260))):
        logits, codes = compiled.program.outputs[:2]
        made = {op.output: op for op in compiled.program.ops}
        if len(codes.tensors) <= level or (
            made[logits.tensors[level]].channels
            != made[codes.tensors[level]].channels
        ):
            continue
        tensors = list(codes.tensors)
        tensors[level] = logits.tensors[level]
        outputs = (logits, replace(codes, tensors=tuple(tensors)))
        program = replace(compiled.program, outputs=outputs)
        post = replace(compiled.postprocess, threshold=-(2**24))
        both = replace(compiled, program=program, postprocess=post)
        image = noise(seed, 30, 40)
        engine = Engine(both, file.to_bytes(both), 1)
        found += check(both, image, engine.run)
    assert found > 20


@pytest.mark.parametrize('scores', SCORES)
def test_boxes_of_the_oracle(scores):
    for seed, compiled in enumerate(detectors(scores, range(100, 103))):
        check(compiled, noise(seed, 12, 20), reference.run)
