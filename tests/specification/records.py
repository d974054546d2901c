"""The records of `model.aqd`: the tables of `docs/file_format.md`, one each.

A record has the keys of its table, in its order. Where one of several kinds
may stand, the kinds are the last classes below one base.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Pair = tuple[int, int]


# Section 2: types that C has, and all.
OF_C = ('uint8', 'int8', 'int16', 'int32', 'int64')
ALL = (*OF_C, 'uint24', 'int40', 'int48')


class ArrayOf(NamedTuple):
    """What a field demands of its array: axes and types."""

    axes: int
    dtypes: tuple[str, ...] = OF_C


Wide = Annotated[Integers, ArrayOf(1, ALL)]
Numbers = Annotated[Integers, ArrayOf(1)]
Rows = Annotated[Integers, ArrayOf(2)]
Bytes = Annotated[Integers, ArrayOf(1, ('uint8',))]


class Kinds:
    """One of several kinds: a class at the end of a line of subclasses."""


# Section 4: shared records


@dataclass(frozen=True)
class Multipliers:
    m: Wide
    b: Wide
    s: Numbers
    whole: bool

    @property
    def biases(self) -> Integers:
        """What is added to products (section 4)."""
        if not self.whole:
            return self.b
        return self.b * 2**self.s + 2**self.s // 2


@dataclass(frozen=True)
class Curve:
    table: Numbers
    first: int
    bits: int

    def __call__(self, x: Integers) -> Integers:
        """The function's value at `x` (contract, section 7)."""
        one = 1 << self.bits
        i, r = (x - self.first) >> self.bits, (x - self.first) & (one - 1)
        between = self.table[i] * (one - r) + self.table[i + 1] * r
        return (between + (one >> 1)) >> self.bits


@dataclass(frozen=True)
class Grid:
    lo: int
    hi: int


# Section 5: programs


@dataclass(frozen=True)
class Op(Kinds):
    output: str
    inputs: list[str]
    channels: int
    grid: Grid


@dataclass(frozen=True)
class Image(Op):
    mean: list[int]


@dataclass(frozen=True)
class Region(Op):
    pass


@dataclass(frozen=True)
class Window(Op):
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


@dataclass(frozen=True)
class Convolution(Window):
    weights: str
    groups: int
    zero: Numbers


@dataclass(frozen=True)
class MaxPool(Window):
    pass


@dataclass(frozen=True)
class Requantize(Op):
    multipliers: Multipliers


@dataclass(frozen=True)
class Add(Op):
    pass


@dataclass(frozen=True)
class Multiply(Op):
    pass


@dataclass(frozen=True)
class Mean(Op):
    pass


@dataclass(frozen=True)
class GroupNorm(Op):
    groups: int
    epsilon: int


@dataclass(frozen=True)
class Lookup(Op):
    table: list[Numbers]
    first: int
    rows: Numbers


@dataclass(frozen=True)
class Upsample(Op):
    pass


@dataclass(frozen=True)
class Concatenate(Op):
    pass


@dataclass(frozen=True)
class Slice(Op):
    first: int
    offset: Pair
    step: Pair


@dataclass(frozen=True)
class Weights:
    bits: int
    shape: list[int]
    packed: Bytes

    def codes(self) -> Integers:
        """The codes of the weights, int64[o, i, rows, columns]."""
        count = int(np.prod(self.shape))
        packed = self.packed.astype(np.uint8)
        bits = np.unpackbits(packed, bitorder='little')[: count * self.bits]
        powers = 1 << np.arange(self.bits, dtype=np.int64)
        levels = bits.reshape(count, self.bits) @ powers
        if self.bits == 8:
            return (levels - 127).reshape(self.shape)
        return (2 * levels + 1 - (1 << self.bits)).reshape(self.shape)


@dataclass(frozen=True)
class Output:
    tensors: list[str]
    scale: float


@dataclass(frozen=True)
class Program:
    ops: list[Op]
    weights: dict[str, Weights]
    outputs: list[Output]
    stride: int


# Section 6


@dataclass(frozen=True)
class PreProcess:
    short: int
    long: int
    bgr: bool
    fill: list[int]
    whole: bool
    stretch: bool
    oriented: bool


# Section 7: scores, decoders


@dataclass(frozen=True)
class Scores(Kinds):
    logits: Multipliers


@dataclass(frozen=True)
class Sigmoid(Scores):
    curve: Curve


@dataclass(frozen=True)
class WithFactors(Scores):
    factors: Multipliers
    curve: Curve


@dataclass(frozen=True)
class Product(WithFactors):
    least: int


@dataclass(frozen=True)
class BestClass(WithFactors):
    pass


@dataclass(frozen=True)
class Joint(WithFactors):
    pass


@dataclass(frozen=True)
class GeometricMean(WithFactors):
    pass


@dataclass(frozen=True)
class Softmax(Scores):
    exp: Curve


@dataclass(frozen=True)
class AnchorLevel:
    stride: Pair
    base: Rows


@dataclass(frozen=True)
class PointLevel:
    stride: Pair
    offset: Pair


class Decoder(Kinds):
    """How box codes become boxes."""


@dataclass(frozen=True)
class Anchors(Decoder):
    levels: list[AnchorLevel]
    deltas: Multipliers
    limit: int
    exp: Curve


@dataclass(frozen=True)
class Cells(Decoder):
    levels: list[AnchorLevel]
    codes: Multipliers
    sigmoid: Curve
    limit: int
    exp: Curve


@dataclass(frozen=True)
class Points(Decoder):
    levels: list[PointLevel]
    distances: list[Multipliers]


@dataclass(frozen=True)
class Exponents(Decoder):
    levels: list[PointLevel]
    edges: list[int]
    codes: Multipliers
    limit: int
    exp: Curve


@dataclass(frozen=True)
class Bins(Decoder):
    levels: list[PointLevel]
    bins: int
    codes: Multipliers
    exp: Curve


@dataclass(frozen=True)
class PostProcess:
    decoder: Decoder
    scores: Scores
    threshold: int
    candidates: int
    total: int
    margin: int
    overlap: int
    keep: int


# Section 8


@dataclass(frozen=True)
class RegionStage:
    features: int
    strides: list[int]
    finest: int
    bins: int
    samples: int
    program: Program
    logits: Multipliers
    deltas: Multipliers


@dataclass(frozen=True)
class Regions:
    stages: list[RegionStage]
    limit: int
    exp: Curve
    powers: Curve
    threshold: int
    overlap: int
    keep: int


# Section 3


@dataclass(frozen=True)
class Detector:
    program: Program
    preprocess: PreProcess
    postprocess: PostProcess
    regions: Regions | None
    labels: list[str]
