"""Detectors of random parameters, whose maps are random mixtures of pixels.

Each is one that a file may hold, and small. What is random is chosen so that
boxes are found, or is at the ends of its range.
"""

from dataclasses import replace

import numpy as np

from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    AnchorLevel,
    Anchors,
    BestClass,
    Bins,
    Cells,
    CompiledDetector,
    Curve,
    Decoder,
    Exponents,
    GeometricMean,
    Joint,
    PointLevel,
    Points,
    PostProcess,
    PreProcess,
    Product,
    Regions,
    RegionStage,
    Scores,
    Sigmoid,
    Softmax,
)
from aqd_mmdet.program.fixed_point import Multipliers

DECODERS = (Anchors, Cells, Points, Exponents, Bins)
SCORES = (Sigmoid, Product, BestClass, GeometricMean, Softmax, Joint)
ONE = (1, 1)
PIXELS = ir.Grid(-255, 255)
BYTES = ir.Grid(-127, 127)


class _Maker:
    """Draws the parts of a detector.

    Args:
        seed: Of what is drawn.
        wild: Whether numbers are at the ends of their ranges.
    """

    def __init__(self, seed: int, wild: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.wild = wild
        self.ops: list[ir.Op] = []
        self.weights: dict[str, ir.Weights] = {}

    def integer(self, low: int, high: int) -> int:
        if self.is_wild(0.3):
            return (low, high)[self.rng.integers(2)]
        return int(self.rng.integers(low, high, endpoint=True))

    def is_wild(self, share: float) -> bool:
        return self.wild and self.rng.random() < share

    def multipliers(
        self, channels: int, bits: int = 0, offset: int = 0
    ) -> Multipliers:
        """Multipliers of about 2^bits with an offset, or of anything."""
        count = channels if self.rng.random() < 0.5 else 1
        if self.is_wild(0.3):
            draws = [
                (
                    self.integer(-(2**31), 2**31 - 1),
                    self.integer(-(2**62), 2**62),
                    self.integer(0, 47),
                )
                for _ in range(count)
            ]
            m, b, s = zip(*draws, strict=True)
        else:
            m = self.rng.integers(2**14, 2**16, count)
            s = [16 - bits] * count
            b = [(2 * offset + 1) << (15 - bits)] * count
        return Multipliers(
            np.array(m, np.int32), np.array(b, np.int64), np.array(s, np.uint8)
        )

    def curve(self, low: int, high: int, largest: int) -> Curve:
        """A curve over low..high that mostly rises."""
        bits = self.integer(14, 24)
        first = low - self.integer(0, 2**bits - 1)
        count = (high - first) // 2**bits + 2
        values = self.rng.integers(0, largest, count, endpoint=True)
        if not self.is_wild(0.3):
            values = np.sort(values)
        # Of the exponential, the value at 0 is not 0.
        values[-2:] = largest
        return Curve(values.astype(np.int32), first, bits)

    def convolution(
        self, name: str, source: str, ins: int, outs: int, kernel: ir.Size
    ) -> None:
        codes = self.rng.integers(-127, 128, (outs, ins, *kernel), np.int8)
        self.weights[name] = ir.Weights.of(codes, 8)
        self.ops.append(
            ir.Convolution(
                name, (source,), outs, ir.INT32, kernel, ONE, (0, 0), ONE,
                name, 1,
            )
        )  # fmt: skip

    def requantize(
        self, name: str, source: str, outs: int, grid: ir.Grid, shift: int
    ) -> None:
        half = 1 << shift >> 1
        table = Multipliers(
            np.ones(1, np.int32),
            np.array([half], np.int64),
            np.array([shift], np.uint8),
        )
        self.ops.append(ir.Requantize(name, (source,), outs, grid, table))

    def map(self, name: str, source: str, outs: int) -> None:
        """Numbers of 17 bits, from a tensor of 3 channels."""
        self.convolution(f'{name}.sums', source, 3, outs, ONE)
        self.requantize(name, f'{name}.sums', outs, ir.INT32, 0)

    def scores(self, kind: type) -> tuple[Scores, int]:
        """Scores, and the threshold of ranks."""
        logits = self.multipliers(1, 1)
        if kind is Softmax:
            exp = self.curve(-(2**20), 0, 2**24)
            return Softmax(logits, exp), self.integer(0, 2**22)
        curve = self.curve(-(2**20), 2**20, 2**24)
        if kind is Sigmoid:
            return Sigmoid(logits, curve), self.integer(-(2**16), 2**14)
        factors = self.multipliers(1, 1)
        if kind is Product:
            least = self.integer(-(2**16), 2**14)
            found = Product(logits, factors, curve, least)
            return found, self.integer(-(2**16), 2**14)
        return kind(logits, factors, curve), self.integer(0, 2**45)

    def decoder(self, kind: type, strides: list[int], priors: int) -> Decoder:
        limit = self.integer(1, 2**20) if self.is_wild(0.3) else 2**17
        exp = self.curve(-limit, limit, 2**30 if self.is_wild(0.3) else 2**17)
        if kind in (Anchors, Cells):
            levels = tuple(
                AnchorLevel((s, s + 1), self.anchors(priors)) for s in strides
            )
            codes = self.multipliers(4)
            if kind is Anchors:
                return Anchors(levels, codes, limit, exp)
            sigmoid = self.curve(-(2**20), 2**20, 2**16)
            return Cells(levels, codes, sigmoid, limit, exp)
        points = tuple(
            PointLevel(
                (s, s + 1),
                (self.integer(-(2**14), 2**14), self.integer(0, 2**13)),
            )
            for s in strides
        )
        if kind is Points:
            tables = tuple(self.multipliers(4, 0, 2**14) for _ in strides)
            return Points(points, tables)
        if kind is Exponents:
            edges = tuple(self.integer(1, 2**16) for _ in strides)
            return Exponents(points, edges, self.multipliers(4), limit, exp)
        powers = self.curve(-(2**20), 0, 2**24)
        bins = self.integer(1, 5)
        return Bins(points, bins, self.multipliers(1, 2), powers)

    def anchors(self, count: int) -> np.ndarray:
        if self.is_wild(0.2):
            ends = (-(2**31), 2**31 - 1)
            return self.rng.choice(ends, (count, 4)).astype(np.int32)
        low, high = [-(2**14)] * 2 + [2**13] * 2, [2**14] * 2 + [2**16] * 2
        return self.rng.integers(low, high, (count, 4)).astype(np.int32)

    def preprocess(self) -> PreProcess:
        long = self.integer(4, 40)
        flags = [bool(self.rng.integers(2)) for _ in range(3)]
        fill = tuple(self.integer(0, 255) for _ in range(3))
        short = self.integer(max(1, long // 3), long)
        return PreProcess(short, long, flags[0], fill, flags[1], flags[2])

    def detector(
        self, decoder: type, scores: type, stages: int
    ) -> CompiledDetector:
        classes = self.integer(1, 4)
        labels = tuple(f'{i}' for i in range(classes))
        strides = [1, 2, 4][: self.integer(1, 3)]
        priors = self.integer(1, 3) if decoder in (Anchors, Cells) else 1
        how = self.decoder(decoder, strides, priors)
        good, threshold = self.scores(scores)
        coded = 4 * how.bins if isinstance(how, Bins) else 4
        each = (1 if stages else classes) + (scores is Softmax)
        channels = dict(cls=each * priors, box=coded * priors)
        if scores not in (Sigmoid, Softmax):
            channels['factor'] = priors
        means = tuple(self.integer(0, 255) for _ in range(3))
        self.ops.append(ir.Image('p', ('image',), 3, PIXELS, means))
        outputs: dict[str, list[str]] = {name: [] for name in channels}
        for stride in strides:
            source = f'p{stride}'
            self.ops.append(
                ir.Slice(
                    source, ('p',), 3, PIXELS, 0, (0, 0), (stride, stride)
                )
            )
            for name, count in channels.items():
                self.map(f'{name}{stride}', source, count)
                outputs[name].append(f'{name}{stride}')
            self.convolution(f'sums{stride}', source, 3, 2, ONE)
            self.requantize(
                f'map{stride}', f'sums{stride}', 2, BYTES, self.integer(5, 9)
            )
        if stages:
            outputs['map'] = [f'map{stride}' for stride in strides]
        program = self.program([tuple(x) for x in outputs.values()], 4)
        post = PostProcess(
            how,
            good,
            threshold,
            candidates=self.integer(1, 60),
            total=self.integer(1, 90),
            margin=self.integer(-1, 0 if stages else 2**14),
            overlap=self.integer(2**13, 2**16),
            keep=self.integer(1, 50),
        )
        regions = self.regions(stages, strides, classes) if stages else None
        return CompiledDetector(
            program, self.preprocess(), post, regions, labels
        )

    def program(
        self, outputs: list[tuple[str, ...]], stride: int
    ) -> ir.Program:
        program = ir.Program(
            tuple(self.ops),
            dict(self.weights),
            tuple(ir.Output(names, 1.0) for names in outputs),
            stride,
        )
        self.ops.clear()
        self.weights.clear()
        return program

    def regions(self, count: int, strides: list[int], classes: int) -> Regions:
        limit = self.integer(1, 2**17)
        return Regions(
            tuple(self.stage(strides, classes) for _ in range(count)),
            limit,
            self.curve(-limit, limit, 2**17),
            self.curve(-(2**20), 0, 2**24),
            threshold=self.integer(0, 2**22),
            overlap=self.integer(0, 2**16),
            keep=self.integer(1, 50),
        )

    def stage(self, strides: list[int], classes: int) -> RegionStage:
        bins, samples = self.integer(1, 3), self.integer(0, 3)
        wide = ir.Grid(BYTES.lo << ir.MEAN_BITS, BYTES.hi << ir.MEAN_BITS)
        self.ops.append(ir.Region('r', ('image',), 2, wide))
        self.requantize('codes', 'r', 2, BYTES, ir.MEAN_BITS)
        coded = 4 * (classes if self.rng.random() < 0.5 else 1)
        for name, outs in (('cls', classes + 1), ('box', coded)):
            self.convolution(f'{name}.sums', 'codes', 2, outs, (bins, bins))
            self.requantize(name, f'{name}.sums', outs, ir.INT32, 0)
        return RegionStage(
            2,
            tuple(strides),
            self.integer(1, 9),
            bins,
            samples,
            self.program([('cls',), ('box',)], 1),
            self.multipliers(1, 1),
            self.multipliers(4),
        )


def random_detector(
    seed: int,
    decoder: type,
    scores: type,
    stages: int = 0,
    wild: bool = False,
) -> CompiledDetector:
    """Return a detector.

    Args:
        seed: Of all that is random.
        decoder: Class of its decoder.
        scores: Class of its scores.
        stages: Stages behind proposals.
        wild: Whether numbers are often at the ends of their ranges.
    """
    compiled = _Maker(seed, wild).detector(decoder, scores, stages)
    pre = compiled.preprocess
    if pre.stretch:
        compiled = replace(compiled, preprocess=replace(pre, short=pre.long))
    return compiled
