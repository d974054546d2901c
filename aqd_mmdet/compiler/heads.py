"""What follows a detector's network, as integers.

mmdet's dense heads have a handful of ways from maps to boxes, and many heads
share one. Which one a head has is told by the class that defines it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
from torch import nn

from ..errors import UserError
from ..program import ops as ir
from ..program.detector import (
    DELTA_BITS,
    GEOMETRY_BITS,
    SCORE_BITS,
    AnchorLevel,
    Anchors,
    BestClass,
    Bins,
    Cells,
    Curve,
    Decoder,
    Exponents,
    GeometricMean,
    PointLevel,
    Points,
    PostProcess,
    Product,
    Scores,
    Sigmoid,
    Softmax,
)
from ..program.fixed_point import FixedPoint, Multipliers, real_multipliers
from .box_selection import (
    ALL,
    MAX_LOGIT,
    NO_FACTOR,
    least_factor,
    least_rank,
    read_test_cfg,
)
from .trace import dense_head

ONE = 1 << DELTA_BITS
# Distance of a curve's values as a power of two of Q16 units: linear
# interpolation between exponentials 1/256 apart is wrong by 2e-6 of the
# value, between sigmoids 1/64 apart by 3e-6.
EXP_BITS, SIGMOID_BITS = 8, 10
# Of a size's logarithm where mmdet has no limit: 3000 strides, more than any
# image has, and the exponential still fits 31 bits.
MAX_LOG_SIZE = 8
# More pixels than an image has: boxes are not limited to it.
UNLIMITED = 2**14
# Keys of a test_cfg that some heads have beyond those of all.
EXTRA_KEYS = {'YOLOV3Head': ('conf_thr',)}
WAYS = ('predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')


def read_postprocess(
    detector: nn.Module, program: ir.Program, fixed_point: FixedPoint
) -> tuple[ir.Program, PostProcess]:
    """Return a dense head's decoding and suppression.

    Args:
        detector: A detector with a dense head.
        program: Its network.
        fixed_point: Width of multipliers.

    Returns:
        tuple: The program, its outputs in the order of logits, box codes and
        factors; what follows it.

    Raises:
        UserError: If the head decodes in a way that has no integers.
    """
    head: Any = dense_head(detector)
    owner = owner_of(head, WAYS)
    read = _HEADS.get(owner)
    if read is None:
        raise UserError(
            f'the head {type(head).__name__} finds its boxes in the way of '
            f'{owner}: the program has no integers for it'
        )
    rpn = owner == 'RPNHead'
    cfg = read_test_cfg(
        'model.test_cfg.rpn' if rpn else 'model.test_cfg',
        head.test_cfg,
        scored=not rpn,
        known=EXTRA_KEYS.get(owner, ()),
    )
    program, decoder, scores, margin = read(head, program, fixed_point)
    counts = (cfg.candidates, ALL)
    if owner == 'YOLOV3Head':  # of all levels together
        counts = (ALL, cfg.candidates)
    elif owner == 'PAAHead':  # of places, each with all its classes
        counts = (ALL, ALL)
    return program, PostProcess(
        decoder=decoder,
        scores=scores,
        threshold=least_rank(scores, cfg.least, program),
        candidates=counts[0],
        total=counts[1],
        margin=margin,
        overlap=cfg.overlap,
        # YOLOX's head keeps all that suppression leaves, whatever it is told.
        keep=cfg.suppressed if owner == 'YOLOXHead' else cfg.keep,
    )


def owner_of(head: Any, methods: Sequence[str]) -> str:
    """Return the name of the most derived class that defines a method."""
    for cls in type(head).__mro__:
        if any(name in vars(cls) for name in methods):
            return cls.__name__
    return type(head).__name__


def check_deltas(coder: Any) -> None:
    """Raise if a DeltaXYWHBBoxCoder does what a program does not."""
    if coder.add_ctr_clamp or not coder.clip_border:
        raise UserError(
            'bbox_coder: a program has no add_ctr_clamp, and clip_border'
        )


# The ways.

Way = tuple[ir.Program, Decoder, Scores, int]


def _base_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    """BaseDenseHead: a coder of boxes, a sigmoid or softmax, factors."""
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise UserError(
            f'bbox_head.loss_cls ({type(head.loss_cls).__name__}) makes '
            'scores in its own way; the program has sigmoid and softmax'
        )
    coder = head.bbox_coder
    read = _CODERS.get(type(coder).__name__)
    if read is None:
        raise UserError(
            f'the head {type(head).__name__} codes boxes by '
            f'{type(coder).__name__}: the program has no integers for it'
        )
    program, decoder = read(head, program, width)
    if head.use_sigmoid_cls:
        scores = _sigmoids(program, width)
    else:
        logits = to_q16(program.outputs[0].scale, width)
        scores = Softmax(logits, exponential_below_zero())
    return program, decoder, scores, 0


def _rpn_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    """Proposals; behind their maps come those that regions are read from."""
    if type(head.bbox_coder).__name__ != 'DeltaXYWHBBoxCoder' or (
        not head.use_sigmoid_cls
    ):
        raise UserError(
            'rpn_head: the program has proposals by DeltaXYWHBBoxCoder with '
            'a sigmoid'
        )
    _, decoder = _delta_anchors(head, program, width)
    logits = to_q16(program.outputs[0].scale, width)
    return program, decoder, Sigmoid(logits, _sigmoid_curve()), 0


def _paa_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    if head.with_score_voting:
        raise UserError(
            'bbox_head.score_voting averages boxes in float: set it to False'
        )
    program, decoder = _delta_anchors(head, program, width)
    return program, decoder, GeometricMean(*_factored(program, width)), 0


def _gfl_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    codes = to_q16(program.outputs[1].scale, width)
    generator = head.prior_generator
    # Points are the centres of anchors.
    anchors = [_anchors(generator, i) for i in range(generator.num_levels)]
    levels = tuple(
        PointLevel(a.stride, (int(a.base[0, 1]), int(a.base[0, 0])))
        for a in anchors
    )
    decoder = Bins(levels, head.reg_max + 1, codes, exponential_below_zero())
    return program, decoder, _sigmoids(program, width), 0


def _fovea_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    codes = to_q16(program.outputs[1].scale, width)
    decoder = Exponents(
        _points(head.prior_generator),
        tuple(int(edge) << GEOMETRY_BITS for edge in head.base_edge_list),
        codes,
        MAX_LOG_SIZE * ONE,
        exponential(MAX_LOG_SIZE * ONE),
    )
    # Its boxes end a pixel before the image does.
    return program, decoder, _sigmoids(program, width), -1


def _yolox_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    # Points with the stride as their size are anchors.
    levels = tuple(
        AnchorLevel(
            point.stride,
            np.array(
                [
                    *reversed(point.offset),
                    *(s << GEOMETRY_BITS for s in reversed(point.stride)),
                ],
                np.int32,
            )[None],
        )
        for point in _points(head.prior_generator)
    )
    limit = MAX_LOG_SIZE * ONE
    deltas = real_multipliers(
        np.full(4, program.outputs[1].scale * ONE), 0, width
    )
    decoder = Anchors(levels, deltas, limit, exponential(limit))
    return program, decoder, BestClass(*_factored(program, width)), UNLIMITED


def _yolov3_head(head: Any, program: ir.Program, width: FixedPoint) -> Way:
    # One map holds x, y, w, h, objectness and classes, anchor by anchor.
    count, attributes = head.num_base_priors, head.num_attrib
    table = np.arange(count * attributes).reshape(count, attributes)
    program = select(
        program,
        [
            (0, 'logits', table[:, 5:].reshape(-1).tolist()),
            (0, 'boxes', table[:, :4].reshape(-1).tolist()),
            (0, 'factors', table[:, 4].tolist()),
        ],
    )
    limit = MAX_LOG_SIZE * ONE
    generator = head.prior_generator
    decoder = Cells(
        tuple(_anchors(generator, i) for i in range(head.num_levels)),
        real_multipliers(np.full(4, program.outputs[1].scale * ONE), 0, width),
        _curve(_logistic, MAX_LOGIT * ONE, SIGMOID_BITS, ONE),
        limit,
        exponential(limit),
    )
    least = least_factor(head.test_cfg, program.outputs[2].scale)
    scores = Product(*_factored(program, width), least)
    return program, decoder, scores, UNLIMITED


_HEADS: dict[str, Callable[..., Way]] = {
    'BaseDenseHead': _base_head,
    'RPNHead': _rpn_head,
    'PAAHead': _paa_head,
    'GFLHead': _gfl_head,
    'FoveaHead': _fovea_head,
    'YOLOXHead': _yolox_head,
    'YOLOV3Head': _yolov3_head,
}


# Coders of boxes.

Coded = tuple[ir.Program, Decoder]


def _delta_anchors(head: Any, program: ir.Program, width: FixedPoint) -> Coded:
    coder = head.bbox_coder
    check_deltas(coder)
    limit = round(abs(log(16 / 1000)) * ONE)
    out = program.outputs[1]
    decoder = Anchors(
        tuple(
            _anchors(head.prior_generator, i) for i in range(len(out.tensors))
        ),
        real_multipliers(
            out.scale * np.array(coder.stds) * ONE,
            np.array(coder.means) * ONE,
            width,
        ),
        limit,
        exponential(limit),
    )
    return program, decoder


def _distance_points(
    head: Any, program: ir.Program, width: FixedPoint
) -> Coded:
    if not head.bbox_coder.clip_border:
        raise UserError('bbox_coder: a program has clip_border')
    levels = _points(head.prior_generator)
    # The head's maps are in pixels already.
    unit = program.outputs[1].scale * 2**GEOMETRY_BITS
    distances = (real_multipliers(unit, 0.0, width),) * len(levels)
    return program, Points(levels, distances)


def _tblr_anchors(head: Any, program: ir.Program, width: FixedPoint) -> Coded:
    """Top, bottom, left, right, in sides of the anchor."""
    coder, generator = head.bbox_coder, head.prior_generator
    if not coder.clip_border or generator.num_base_priors[0] != 1:
        raise UserError(
            'bbox_coder: a program has clip_border, and one anchor a place'
        )
    program = select(
        program, [(0, 'logits', None), (1, 'boxes', [2, 0, 3, 1])]
    )
    unit = program.outputs[1].scale * 2**GEOMETRY_BITS
    top, bottom, left, right = np.broadcast_to(coder.normalizer, 4)
    factors = np.array([left, top, right, bottom])
    levels, distances = [], []
    for number, stride in enumerate(generator.strides):
        level = _anchors(generator, number)
        centre, size = level.base[0, :2], level.base[0, 2:]
        levels.append(
            PointLevel(_stride(stride), (int(centre[1]), int(centre[0])))
        )
        sides = np.tile(size / 2**GEOMETRY_BITS, 2)
        distances.append(real_multipliers(unit * factors * sides, 0.0, width))
    return program, Points(tuple(levels), tuple(distances))


_CODERS: dict[str, Callable[..., Coded]] = {
    'DeltaXYWHBBoxCoder': _delta_anchors,
    'DistancePointBBoxCoder': _distance_points,
    'TBLRBBoxCoder': _tblr_anchors,
}


# Parts of them.


def _stride(stride: Any) -> tuple[int, int]:
    across, down = stride
    return int(down), int(across)


def _points(generator: Any) -> tuple[PointLevel, ...]:
    one = generator.offset * 2**GEOMETRY_BITS
    return tuple(
        PointLevel((down, across), (round(one * down), round(one * across)))
        for down, across in map(_stride, generator.strides)
    )


def _anchors(generator: Any, level: int) -> AnchorLevel:
    edges = generator.base_anchors[level].double().numpy()
    low, high = edges[:, :2], edges[:, 2:]
    base = np.concatenate([(low + high) / 2, high - low], 1)
    return AnchorLevel(
        _stride(generator.strides[level]),
        np.floor(base * 2**GEOMETRY_BITS + 0.5).astype(np.int32),
    )


def to_q16(scale: float, width: FixedPoint) -> Multipliers:
    """Return the multipliers from units of a scale to Q16."""
    return real_multipliers(scale * ONE, 0.0, width)


def _factored(
    program: ir.Program, width: FixedPoint
) -> tuple[Multipliers, Multipliers, Curve]:
    return (
        to_q16(program.outputs[0].scale, width),
        to_q16(program.outputs[2].scale, width),
        _sigmoid_curve(),
    )


def _sigmoids(program: ir.Program, width: FixedPoint) -> Scores:
    if len(program.outputs) > 2:
        return Product(*_factored(program, width), NO_FACTOR)
    return Sigmoid(to_q16(program.outputs[0].scale, width), _sigmoid_curve())


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _sigmoid_curve() -> Curve:
    return _curve(_logistic, MAX_LOGIT * ONE, SIGMOID_BITS, 2**SCORE_BITS)


def exponential(limit: int) -> Curve:
    """Return the exponential within +-limit, Q16 to Q16."""
    return _curve(np.exp, limit, EXP_BITS, ONE)


def exponential_below_zero() -> Curve:
    """Return the exponential of Q16 numbers from -16 to 0, in 2^-24."""
    curve = _curve(
        lambda x: np.exp(np.minimum(x, 0)),
        MAX_LOGIT * ONE,
        EXP_BITS,
        2**SCORE_BITS,
    )
    # Zero and the value behind it are the last that are read.
    return replace(curve, table=curve.table[: len(curve.table) // 2 + 1])


def _curve(function: Any, limit: int, bits: int, unit: int) -> Curve:
    # One step below the range and one above it, so that both ends of the
    # range lie between two values.
    step = 1 << bits
    first = -(limit // step + 1) * step
    count = 2 * (limit // step + 1) + 2
    at = (first + step * np.arange(count)) / ONE
    values = np.floor(function(at) * unit + 0.5)
    return Curve(values.astype(np.int32), first, bits)


Selection = tuple[int, str, list[int] | None]


def select(program: ir.Program, outputs: Sequence[Selection]) -> ir.Program:
    """Return a program whose outputs are made of channels of its old ones.

    Args:
        program: The program.
        outputs: For each new output, which old one it is made of, its name,
            and which channels it takes in which order; None for all.
    """
    ops = list(program.ops)
    made = {op.output: op for op in program.ops}

    def take(source: str, name: str, channels: list[int]) -> str:
        grid = made[source].grid
        parts = []
        # Runs of neighbours are one slice.
        starts = [
            i
            for i, c in enumerate(channels)
            if not i or c != channels[i - 1] + 1
        ]
        for start, end in zip(
            starts, [*starts[1:], len(channels)], strict=True
        ):
            op = ir.Slice(
                f'{name}.{start}',
                (source,),
                end - start,
                grid,
                channels[start],
                (0, 0),
                (1, 1),
            )
            parts.append(op)
        together = ir.Concatenate(
            name, tuple(op.output for op in parts), len(channels), grid
        )
        ops.extend([*parts, together])
        return name

    new = tuple(
        program.outputs[number]
        if channels is None
        else replace(
            program.outputs[number],
            tensors=tuple(
                take(tensor, f'{name}.{level}', channels)
                for level, tensor in enumerate(program.outputs[number].tensors)
            ),
        )
        for number, name, channels in outputs
    )
    return replace(program, ops=tuple(ops), outputs=new)
