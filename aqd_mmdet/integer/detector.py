"""A compiled detector: network, what precedes it, what follows it, names.

Data only, all of it in the file; numpy alone. docs/integer_contract.md,
sections 6 and 7, say what is done with it.
"""

from dataclasses import dataclass

import numpy as np

from .fixed_point import Multipliers
from .program import Program

# Fractional bits: of a pixel in decoding, of deltas and logits, of a pixel in
# a box that leaves, of a score, of an overlap.
GEOMETRY_BITS, DELTA_BITS, BOX_BITS = 12, 16, 4
SCORE_BITS, OVERLAP_BITS = 24, 16


@dataclass(frozen=True)
class PreProcess:
    """From an image of any size to the network's.

    Attributes:
        short: Longest that the short side may become.
        long: Longest that the long side may become.
        bgr: Whether the network reads blue first; images are given as RGB.
    """

    short: int
    long: int
    bgr: bool


@dataclass(frozen=True)
class Curve:
    """A function as a table, read with linear interpolation.

    Attributes:
        table: int32, values at equal distances.
        first: Argument of the first one.
        bits: They are ``2^bits`` apart.
    """

    table: np.ndarray
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
    base: np.ndarray


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
class PointLevel:
    """Points of one pyramid level.

    Attributes:
        stride: Distance of points in pixels, rows and columns.
        offset: Of the first point in Q12, y and x.
        distances: From box codes to Q12 pixels.
    """

    stride: tuple[int, int]
    offset: tuple[int, int]
    distances: Multipliers


@dataclass(frozen=True)
class Points:
    """Boxes as distances of their sides from points (distance2bbox)."""

    levels: tuple[PointLevel, ...]


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
class Product:
    """Scores times the sigmoid of a third output, such as centerness.

    Attributes:
        logits: From logits to Q16.
        factors: From the third output to Q16.
        curve: The sigmoid of a Q16 number, in units of 2^-24.
    """

    logits: Multipliers
    factors: Multipliers
    curve: Curve


@dataclass(frozen=True)
class PostProcess:
    """From logits and box codes to boxes.

    Attributes:
        decoder: How box codes become boxes.
        scores: How good a box is, and its score.
        threshold: Smallest logit that counts.
        candidates: Most candidates of a level.
        overlap: Largest overlap of two boxes of a class, in 65536ths.
        keep: Most boxes of an image.
    """

    decoder: Anchors | Points
    scores: Sigmoid | Product
    threshold: int
    candidates: int
    overlap: int
    keep: int


@dataclass(frozen=True)
class CompiledDetector:
    """All that a file ``model.aqd`` holds."""

    program: Program
    preprocess: PreProcess
    postprocess: PostProcess
    labels: tuple[str, ...]
