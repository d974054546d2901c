"""A compiled detector: network, what precedes it, what follows it, names.

Data only, all of it in the file; numpy alone. docs/integer_contract.md,
sections 6 and 7, say what is done with it.
"""

from dataclasses import dataclass

from .arrays import Int32
from .fixed_point import Multipliers
from .ops import Program

# Fractional bits: of a pixel in decoding and in a box, of deltas and logits,
# of a score, of an overlap. Boxes in 16ths of a pixel moved the AP of objects
# of 12 pixels by up to 0.1 points; 256ths by 0.02.
GEOMETRY_BITS, BOX_BITS, DELTA_BITS = 12, 8, 16
SCORE_BITS, OVERLAP_BITS = 24, 16


@dataclass(frozen=True)
class PreProcess:
    """From an image of any size to the network's.

    Attributes:
        short: Longest that the short side may become.
        long: Longest that the long side may become.
        bgr: Whether the network reads blue first; images are given as RGB.
        fill: Value of the border, per channel of the network.
        whole: Whether the border fills a frame of ``long`` x ``long``.
        stretch: Whether images become ``long`` x ``long`` without keeping
            the ratio of their sides.
        oriented: Whether who reads a file turns the image by its EXIF
            orientation, as training did.
    """

    short: int
    long: int
    bgr: bool
    fill: tuple[int, ...]
    whole: bool
    stretch: bool
    oriented: bool = True


@dataclass(frozen=True)
class Curve:
    """A function as a table, read with linear interpolation.

    Attributes:
        table: int32, values at equal distances.
        first: Argument of the first one.
        bits: They are ``2^bits`` apart.
    """

    table: Int32
    first: int
    bits: int


@dataclass(frozen=True)
class AnchorLevel:
    """Anchors of one pyramid level.

    Attributes:
        stride: Distance of positions in pixels, rows and columns.
        base: int32 (A, 4): centre x, y, width, height in Q12, of the anchors
            at the first position.
    """

    stride: tuple[int, int]
    base: Int32


@dataclass(frozen=True)
class Anchors:
    """Boxes as deltas from anchors (mmdet's delta2bbox).

    Attributes:
        levels: From the finest to the coarsest.
        deltas: From box codes to Q16, four channels.
        limit: Of the logarithm of a size's change, Q16.
        exp: The exponential, Q16 to Q16.
    """

    levels: tuple[AnchorLevel, ...]
    deltas: Multipliers
    limit: int
    exp: Curve


@dataclass(frozen=True)
class Cells:
    """Centres inside a cell, sizes as of anchors (mmdet's YOLOBBoxCoder).

    Attributes:
        levels: Anchors of each level, from the finest to the coarsest.
        codes: From box codes to Q16, four channels.
        sigmoid: Of a Q16 number, in Q16: where in its cell a centre lies.
        limit: Of the logarithm of a size's change, Q16.
        exp: The exponential, Q16 to Q16.
    """

    levels: tuple[AnchorLevel, ...]
    codes: Multipliers
    sigmoid: Curve
    limit: int
    exp: Curve


@dataclass(frozen=True)
class PointLevel:
    """Points of one pyramid level.

    Attributes:
        stride: Distance of points in pixels, rows and columns.
        offset: Of the first point in Q12, y and x.
    """

    stride: tuple[int, int]
    offset: tuple[int, int]


@dataclass(frozen=True)
class Points:
    """Boxes as distances of their sides from points (distance2bbox).

    Attributes:
        levels: From the finest to the coarsest.
        distances: Of each level, from box codes to Q12 pixels.
    """

    levels: tuple[PointLevel, ...]
    distances: tuple[Multipliers, ...]


@dataclass(frozen=True)
class Exponents:
    """Distances that are exponentials of the codes (FoveaBox, FCOS).

    Attributes:
        levels: From the finest to the coarsest.
        edges: Of each level, the distance that stands for exp(0), Q12.
        codes: From box codes to Q16.
        limit: Of an exponent, Q16.
        exp: The exponential, Q16 to Q16.
    """

    levels: tuple[PointLevel, ...]
    edges: tuple[int, ...]
    codes: Multipliers
    limit: int
    exp: Curve


@dataclass(frozen=True)
class Bins:
    """Distances as means of distributions over 0, 1, ... strides (GFL).

    Attributes:
        levels: From the finest to the coarsest.
        bins: Values of a distribution; a side has as many channels.
        codes: From box codes to Q16.
        exp: The exponential of Q16 numbers from -16 to 0, in 2^-24.
    """

    levels: tuple[PointLevel, ...]
    bins: int
    codes: Multipliers
    exp: Curve


@dataclass(frozen=True)
class Sigmoid:
    """A box is as good as its logit; its score is the logit's sigmoid.

    Attributes:
        logits: From logits to Q16.
        curve: The sigmoid of a Q16 number, in units of 2^-24.
    """

    logits: Multipliers
    curve: Curve


@dataclass(frozen=True)
class Factored:
    """Sigmoids times the sigmoid of a third output, such as centerness.

    Attributes:
        logits: From logits to Q16.
        factors: From the third output to Q16.
        curve: The sigmoid of a Q16 number, in units of 2^-24.
    """

    logits: Multipliers
    factors: Multipliers
    curve: Curve


@dataclass(frozen=True)
class Product(Factored):
    """Candidates are chosen by their logit, and ordered by the product.

    Attributes:
        least: Smallest value of the third output that counts.
    """

    least: int


@dataclass(frozen=True)
class BestClass(Factored):
    """Chosen by the product, of each place's best class alone (YOLOX)."""


@dataclass(frozen=True)
class Joint(Factored):
    """Chosen by the product (YOLOF)."""


@dataclass(frozen=True)
class GeometricMean(Factored):
    """Chosen by the square root of the product (PAA)."""


@dataclass(frozen=True)
class Softmax:
    """Shares of the classes; the last class is the background.

    Attributes:
        logits: From logits to Q16.
        exp: The exponential of Q16 numbers from -16 to 0, in 2^-24.
    """

    logits: Multipliers
    exp: Curve


@dataclass(frozen=True)
class RegionStage:
    """A network of regions, and the maps that it reads.

    Attributes:
        features: Index of the program's output that holds its maps.
        strides: Of the maps in pixels, from the finest.
        finest: Side of the smallest region that is not too fine for the
            first map, in pixels; each next map begins at twice the side.
        bins: Averages of a region, along each axis.
        samples: Of a bin, along each axis; 0 for as many as it has pixels.
        program: From averages to class logits and box codes.
        logits: From class logits to Q16.
        deltas: From box codes to Q16, four channels.
    """

    features: int
    strides: tuple[int, ...]
    finest: int
    bins: int
    samples: int
    program: Program
    logits: Multipliers
    deltas: Multipliers


@dataclass(frozen=True)
class Regions:
    """The second stage of a detector, from proposals to boxes.

    Attributes:
        stages: One, or several of which each refines the boxes of the last.
        limit: Of the logarithm of a size's change, Q16.
        exp: The exponential, Q16 to Q16.
        powers: The exponential of Q16 numbers from -16 to 0, in 2^-24.
        threshold: Smallest score that counts, in 2^-24.
        overlap: Largest overlap of two boxes of a class, in 65536ths.
        keep: Most boxes of an image.
    """

    stages: tuple[RegionStage, ...]
    limit: int
    exp: Curve
    powers: Curve
    threshold: int
    overlap: int
    keep: int


Decoder = Anchors | Cells | Points | Exponents | Bins
Scores = Sigmoid | Product | BestClass | Joint | GeometricMean | Softmax


@dataclass(frozen=True)
class PostProcess:
    """From logits and box codes to boxes.

    Attributes:
        decoder: How box codes become boxes.
        scores: How good a box is, and its score.
        threshold: Smallest rank of a candidate that counts.
        candidates: Most candidates of a level.
        total: Most candidates of all levels.
        margin: Pixels beyond the image that boxes are limited to.
        overlap: Largest overlap of two boxes of a class, in 65536ths.
        keep: Most boxes of an image.
    """

    decoder: Decoder
    scores: Scores
    threshold: int
    candidates: int
    total: int
    margin: int
    overlap: int
    keep: int


@dataclass(frozen=True)
class CompiledDetector:
    """All that a file ``model.aqd`` holds.

    Attributes:
        program: The network.
        preprocess: What precedes it.
        postprocess: From its first outputs to boxes; to proposals of one
            class if there is a second stage.
        regions: The second stage, or None.
        labels: Class names.
    """

    program: Program
    preprocess: PreProcess
    postprocess: PostProcess
    regions: Regions | None
    labels: tuple[str, ...]

    @property
    def programs(self) -> tuple[Program, ...]:
        """The network's program, and those of the second stage."""
        stages = () if self.regions is None else self.regions.stages
        return (self.program, *(stage.program for stage in stages))
