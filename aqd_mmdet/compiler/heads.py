"""What follows a detector's network, as integers.

mmdet's dense heads find boxes in a handful of ways, and many heads share
one. Which one a head has is told by the class that defines it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..errors import UserError
from ..program import ops as ir
from ..program.detector import (
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
    Joint,
    PointLevel,
    PostProcess,
    Product,
    Scores,
    Sigmoid,
    Softmax,
)
from ..program.fixed_point import FixedPoint, Multipliers, real_multipliers
from .box_coders import (
    CODERS,
    MAX_LOG_SIZE,
    anchors,
    delta_anchors,
    exponents,
    need_bins,
    need_cells,
    need_distances,
    points,
    to_q16,
)
from .box_selection import (
    ALL,
    NO_FACTOR,
    BoxSelection,
    least_factor,
    least_rank,
    read_test_cfg,
)
from .curves import ONE, exponential, exponential_below_zero, sigmoid
from .fold import BOX_CODES, Folded
from .owners import coder_of, owner_of
from .regions import need_proposals
from .select_outputs import select_outputs
from .trace import dense_head

# More pixels than an image has: boxes are not limited to it.
UNLIMITED = 2**14
# Methods of a head that find boxes.
METHODS = (
    *('predict', 'predict_by_feat', '_predict_by_feat_single'),
    *('_bbox_post_process', '_bbox_decode'),
)


@dataclass(frozen=True)
class Decoding:
    """How a head finds boxes.

    Attributes:
        program: The network, its outputs in the order of logits, box codes
            and factors.
        decoder: How box codes become boxes.
        scores: How good a box is.
        margin: Pixels beyond the image that boxes are limited to.
    """

    program: ir.Program
    decoder: Decoder
    scores: Scores
    margin: int = 0


@dataclass(frozen=True)
class Counts:
    """How many boxes are kept.

    Attributes:
        level: Most candidates of a level.
        total: Most candidates of all levels.
        keep: Most boxes of an image.
    """

    level: int
    total: int
    keep: int


def _by_level(cfg: BoxSelection) -> Counts:
    return Counts(cfg.candidates, ALL, cfg.keep)


@dataclass(frozen=True)
class Head:
    """A class of heads, by the one that defines how boxes are found.

    Attributes:
        read: Returns its decoding, given the head, its network and the width
            of multipliers.
        test_cfg: How the config calls its selection of boxes.
        scored: Whether boxes need a score, as all but proposals do.
        keys: Of its test_cfg, beyond those of all.
        counts: What its test_cfg says of the number of boxes.
    """

    read: Callable[[Any, ir.Program, FixedPoint], Decoding]
    test_cfg: str = 'model.test_cfg'
    scored: bool = True
    keys: tuple[str, ...] = ()
    counts: Callable[[BoxSelection], Counts] = _by_level


def read_postprocess(
    detector: nn.Module, folded: Folded, fixed_point: FixedPoint
) -> tuple[ir.Program, PostProcess]:
    """Return a dense head's decoding and suppression.

    Args:
        detector: A detector with a dense head.
        folded: Its network.
        fixed_point: Width of multipliers.

    Returns:
        tuple: The program, its outputs in the order of logits, box codes and
        factors; what follows it.

    Raises:
        UserError: If the head finds boxes in a way that has no integers.
    """
    module: Any = dense_head(detector)
    owner = owner_of(module, METHODS)
    head = _HEADS.get(owner)
    if head is None:
        raise UserError(
            f'the head {type(module).__name__} finds its boxes as {owner} '
            'does: the program has no integers for it'
        )
    _need_strides(module, folded.program)
    need_proposals(detector, owner, folded.program)
    cfg = read_test_cfg(
        head.test_cfg, module.test_cfg, scored=head.scored, known=head.keys
    )
    counts = head.counts(cfg)
    decoding = head.read(module, folded.program, fixed_point)
    decoder = decoding.decoder
    if folded.boxes_are_exponents:
        scale = folded.program.outputs[BOX_CODES].scale
        decoder = exponents(module, decoder, scale, fixed_point)
    kind = type(decoding.scores).__name__
    scale = decoding.program.outputs[0].scale
    return decoding.program, PostProcess(
        decoder=decoder,
        scores=decoding.scores,
        threshold=least_rank(kind, cfg.least, scale),
        candidates=counts.level,
        total=counts.total,
        margin=decoding.margin,
        overlap=cfg.overlap,
        keep=counts.keep,
    )


def _need_strides(head: Any, program: ir.Program) -> None:
    """Raise if maps and strides are not as many."""
    maps = len(program.outputs[0].tensors)
    strides = head.prior_generator.num_levels
    if maps != strides:
        raise UserError(
            f'{type(head).__name__} has {maps} maps, and its prior_generator '
            f'{strides} strides: give as many (neck.num_outs)'
        )


def _base_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    """BaseDenseHead: a coder of boxes, a sigmoid or softmax, factors."""
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise UserError(
            f'bbox_head.loss_cls ({type(head.loss_cls).__name__}) makes '
            'scores in its own way; the program has sigmoid and softmax'
        )
    read = CODERS.get(coder_of(head))
    if read is None:
        raise UserError(
            f'the head {type(head).__name__} codes boxes by '
            f'{coder_of(head)}: the program has no integers for it'
        )
    program, decoder = read(head, program, fixed_point)
    if head.use_sigmoid_cls:
        return Decoding(program, decoder, _sigmoids(program, fixed_point))
    _need_sigmoid(head, program)
    logits = to_q16(program.outputs[0].scale, fixed_point)
    scores = Softmax(logits, exponential_below_zero())
    return Decoding(program, decoder, scores)


def _need_sigmoid(head: Any, program: ir.Program) -> None:
    """Raise if a third output multiplies shares of a softmax."""
    if len(program.outputs) > 2 and not head.use_sigmoid_cls:
        raise UserError(
            f'the head {type(head).__name__} multiplies a softmax by its '
            'third output: the program multiplies sigmoids alone; set '
            'bbox_head.loss_cls.use_sigmoid=True'
        )


def _rpn_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    """Proposals; behind their maps come those that regions are read from."""
    if coder_of(head) != 'DeltaXYWHBBoxCoder' or not head.use_sigmoid_cls:
        raise UserError(
            'rpn_head: the program has proposals by DeltaXYWHBBoxCoder with '
            'a sigmoid'
        )
    program, decoder = delta_anchors(head, program, fixed_point)
    logits = to_q16(program.outputs[0].scale, fixed_point)
    return Decoding(program, decoder, Sigmoid(logits, sigmoid(2**SCORE_BITS)))


def _paa_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    if head.with_score_voting:
        raise UserError(
            'bbox_head.score_voting averages boxes in float: set it to False'
        )
    program, decoder = delta_anchors(head, program, fixed_point)
    scores = GeometricMean(*_factored(program, fixed_point))
    return Decoding(program, decoder, scores)


def _yolof_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    _need_sigmoid(head, program)
    program, decoder = delta_anchors(head, program, fixed_point)
    return Decoding(program, decoder, Joint(*_factored(program, fixed_point)))


def _gfl_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    need_distances(head)
    need_bins(head)
    codes = to_q16(program.outputs[1].scale, fixed_point)
    generator = head.prior_generator
    # Points are the centres of anchors.
    levels = tuple(
        PointLevel(a.stride, (int(a.base[0, 1]), int(a.base[0, 0])))
        for a in (anchors(generator, i) for i in range(generator.num_levels))
    )
    decoder = Bins(levels, head.reg_max + 1, codes, exponential_below_zero())
    return Decoding(program, decoder, _sigmoids(program, fixed_point))


def _fovea_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    codes = to_q16(program.outputs[1].scale, fixed_point)
    decoder = Exponents(
        points(head.prior_generator),
        tuple(round(x * 2**GEOMETRY_BITS) for x in head.base_edge_list),
        codes,
        MAX_LOG_SIZE,
        exponential(MAX_LOG_SIZE),
    )
    # Its boxes end a pixel before the image does.
    scores = _sigmoids(program, fixed_point)
    return Decoding(program, decoder, scores, margin=-1)


def _yolox_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
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
        for point in points(head.prior_generator)
    )
    deltas = real_multipliers(
        np.full(4, program.outputs[1].scale * ONE), 0, fixed_point
    )
    decoder = Anchors(levels, deltas, MAX_LOG_SIZE, exponential(MAX_LOG_SIZE))
    scores = BestClass(*_factored(program, fixed_point))
    return Decoding(program, decoder, scores, UNLIMITED)


def _yolov3_head(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Decoding:
    need_cells(head)
    # One map holds x, y, w, h, objectness and classes, anchor by anchor.
    count, attributes = head.num_base_priors, head.num_attrib
    table = np.arange(count * attributes).reshape(count, attributes)
    program = select_outputs(
        program,
        [
            (0, 'logits', table[:, 5:].reshape(-1).tolist()),
            (0, 'boxes', table[:, :4].reshape(-1).tolist()),
            (0, 'factors', table[:, 4].tolist()),
        ],
    )
    generator = head.prior_generator
    decoder = Cells(
        tuple(anchors(generator, i) for i in range(head.num_levels)),
        real_multipliers(
            np.full(4, program.outputs[1].scale * ONE), 0, fixed_point
        ),
        sigmoid(ONE),
        MAX_LOG_SIZE,
        exponential(MAX_LOG_SIZE),
    )
    least = least_factor(head.test_cfg, program.outputs[2].scale)
    scores = Product(*_factored(program, fixed_point), least)
    return Decoding(program, decoder, scores, UNLIMITED)


def _factored(
    program: ir.Program, fixed_point: FixedPoint
) -> tuple[Multipliers, Multipliers, Curve]:
    return (
        to_q16(program.outputs[0].scale, fixed_point),
        to_q16(program.outputs[2].scale, fixed_point),
        sigmoid(2**SCORE_BITS),
    )


def _sigmoids(program: ir.Program, fixed_point: FixedPoint) -> Scores:
    if len(program.outputs) > 2:
        return Product(*_factored(program, fixed_point), NO_FACTOR)
    logits = to_q16(program.outputs[0].scale, fixed_point)
    return Sigmoid(logits, sigmoid(2**SCORE_BITS))


_HEADS: dict[str, Head] = {
    'BaseDenseHead': Head(_base_head),
    'RPNHead': Head(_rpn_head, test_cfg='model.test_cfg.rpn', scored=False),
    # It counts places, each with all its classes.
    'PAAHead': Head(_paa_head, counts=lambda cfg: Counts(ALL, ALL, cfg.keep)),
    'YOLOFHead': Head(_yolof_head),
    'GFLHead': Head(_gfl_head),
    'FoveaHead': Head(_fovea_head),
    # It takes all places, and keeps all that suppression leaves, whatever it
    # is told.
    'YOLOXHead': Head(
        _yolox_head, counts=lambda cfg: Counts(ALL, ALL, cfg.suppressed)
    ),
    # It counts the candidates of all levels together.
    'YOLOV3Head': Head(
        _yolov3_head,
        keys=('conf_thr',),
        counts=lambda cfg: Counts(ALL, cfg.candidates, cfg.keep),
    ),
}
