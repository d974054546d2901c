"""How box codes become boxes: mmdet's coders, as integers."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from ..errors import UserError
from ..program import ops as ir
from ..program.detector import (
    GEOMETRY_BITS,
    AnchorLevel,
    Anchors,
    Decoder,
    Exponents,
    PointLevel,
    Points,
)
from ..program.fixed_point import FixedPoint, Multipliers, real_multipliers
from .curves import ONE, exponential
from .owners import coder_of, owner_of
from .select_outputs import limit_output, select_outputs

# Of a distance's logarithm: 8103 pixels. Two such distances are as long as the
# longest image, 16384.
MAX_LOG_DISTANCE = 9 * ONE
# How far mmdet lets the logarithm of an anchor's side change.
MAX_LOG_RATIO = -log(16 / 1000)
# Of a size's logarithm where mmdet has no limit: 3000 strides, more than any
# image has, and the exponential still fits 31 bits.
MAX_LOG_SIZE = 8 * ONE
# A program, which may be given other outputs, and what decodes them.
Coded = tuple[ir.Program, Decoder]


def _need_coder(head: Any, name: str) -> None:
    found = coder_of(head)
    if found != name:
        raise UserError(
            f'bbox_coder ({found}): with this head a program has {name}'
        )
    if not head.bbox_coder.clip_border:
        raise UserError('bbox_coder: a program has clip_border')


def need_distances(head: Any) -> None:
    """Raise if a head's coder is no coder of distances that a program has."""
    _need_coder(head, 'DistancePointBBoxCoder')


def need_bins(head: Any) -> None:
    """Raise if other points or other means of bins decode a head's codes."""
    centre = owner_of(head, ('anchor_center',))
    mean = owner_of(head.integral, ('forward',))
    if (centre, mean) != ('GFLHead', 'Integral'):
        raise UserError(
            f'the head {type(head).__name__} decodes its boxes by the '
            f'anchor_center of {centre} and by {mean}: the program has what '
            'GFLHead and its Integral do'
        )
    bins, count = head.integral.project.tolist(), head.reg_max + 1
    if len(bins) != count or not np.allclose(bins, range(count)):
        raise UserError(
            f'the head {type(head).__name__}: integral.project is {bins}, a '
            f'program has bins at 0 to {head.reg_max}'
        )


def need_cells(head: Any) -> None:
    """Raise if a YOLOV3's head has another coder or strides than a program."""
    found = coder_of(head)
    if found != 'YOLOBBoxCoder':
        raise UserError(
            f'the head {type(head).__name__} codes boxes by {found}: with '
            'this head a program has YOLOBBoxCoder'
        )
    strides = [(stride, stride) for stride in head.featmap_strides]
    if strides != head.prior_generator.strides:
        raise UserError(
            f'the head {type(head).__name__} has featmap_strides='
            f'{list(head.featmap_strides)} and its anchor_generator strides='
            f'{head.prior_generator.strides}: a program has the same'
        )


def delta_anchors(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Coded:
    coder = head.bbox_coder
    _need_coder(head, 'DeltaXYWHBBoxCoder')
    limit = round(MAX_LOG_RATIO * ONE)
    if coder.add_ctr_clamp:
        program = _limit_centres(head, program)
        limit = MAX_LOG_SIZE  # of small sizes; large ones are limited now
    out = program.outputs[1]
    decoder = Anchors(
        tuple(
            anchors(head.prior_generator, i) for i in range(len(out.tensors))
        ),
        real_multipliers(
            out.scale * np.array(coder.stds) * ONE,
            np.array(coder.means) * ONE,
            fixed_point,
        ),
        limit,
        exponential(limit),
    )
    return program, decoder


def _limit_centres(head: Any, program: ir.Program) -> ir.Program:
    """Limit box codes to pixels from the centres of anchors (YOLOF)."""
    coder, out = head.bbox_coder, program.outputs[1]
    levels = []
    for number in range(len(out.tensors)):
        sides = anchors(head.prior_generator, number).base[:, 2:]
        moves = coder.ctr_clamp * 2**GEOMETRY_BITS / sides  # (A, 2)
        high = np.pad(moves, ((0, 0), (0, 2)), constant_values=MAX_LOG_RATIO)
        low = np.pad(-moves, ((0, 0), (0, 2)), constant_values=-np.inf)
        levels.append(
            [
                ((ends - coder.means) / coder.stds / out.scale).ravel()
                for ends in (low, high)
            ]
        )
    return limit_output(program, 1, 'limited', levels)


def _distance_points(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Coded:
    need_distances(head)
    levels = points(head.prior_generator)
    # The head's maps are in pixels already.
    unit = program.outputs[1].scale * 2**GEOMETRY_BITS
    distances = (real_multipliers(unit, 0.0, fixed_point),) * len(levels)
    return program, Points(levels, distances)


def _tblr_anchors(
    head: Any, program: ir.Program, fixed_point: FixedPoint
) -> Coded:
    """Top, bottom, left, right, in sides of the anchor."""
    coder, generator = head.bbox_coder, head.prior_generator
    if not coder.clip_border or generator.num_base_priors[0] != 1:
        raise UserError(
            'bbox_coder: a program has clip_border, and one anchor a place'
        )
    program = select_outputs(
        program, [(0, 'logits', None), (1, 'boxes', [2, 0, 3, 1])]
    )
    unit = program.outputs[1].scale * 2**GEOMETRY_BITS
    top, bottom, left, right = np.broadcast_to(coder.normalizer, 4)
    factors = np.array([left, top, right, bottom])
    levels, distances = [], []
    for number, stride in enumerate(generator.strides):
        level = anchors(generator, number)
        centre, size = level.base[0, :2], level.base[0, 2:]
        levels.append(
            PointLevel(_stride(stride), (int(centre[1]), int(centre[0])))
        )
        sides = np.tile(size / 2**GEOMETRY_BITS, 2)
        distances.append(
            real_multipliers(unit * factors * sides, 0.0, fixed_point)
        )
    return program, Points(tuple(levels), tuple(distances))


CODERS: dict[str, Callable[..., Coded]] = {
    'DeltaXYWHBBoxCoder': delta_anchors,
    'DistancePointBBoxCoder': _distance_points,
    'TBLRBBoxCoder': _tblr_anchors,
}


def exponents(
    head: Any, decoder: Decoder, scale: float, fixed_point: FixedPoint
) -> Exponents:
    """Return what decodes box codes whose exponentials a head decodes.

    Args:
        head: The head.
        decoder: What would decode the exponentials.
        scale: Real value of one unit of the box codes.
        fixed_point: Width of multipliers.

    Raises:
        UserError: If the exponentials are no distances in pixels.
    """
    coder = coder_of(head)
    if not isinstance(decoder, Points) or coder != 'DistancePointBBoxCoder':
        raise UserError(
            f'the box codes of {type(head).__name__} are exponentials, coded '
            f'by {coder}: a program has exponentials as distances from '
            'points (DistancePointBBoxCoder)'
        )
    return Exponents(
        decoder.levels,
        (1 << GEOMETRY_BITS,) * len(decoder.levels),  # exp(0) is one pixel
        to_q16(scale, fixed_point),
        MAX_LOG_DISTANCE,
        exponential(MAX_LOG_DISTANCE),
    )


def _stride(stride: Any) -> tuple[int, int]:
    across, down = stride
    return whole('stride', down), whole('stride', across)


def whole(name: str, number: Any) -> int:
    """Return a number of pixels as an integer.

    Args:
        name: How the config calls it.
        number: The number.

    Raises:
        UserError: If it has a fraction.
    """
    if number != int(number):
        raise UserError(f'{name}={number}: a program has whole pixels')
    return int(number)


def _need_generator(generator: Any, name: str) -> None:
    owner = owner_of(
        generator, ('grid_priors', 'single_level_grid_priors', '_meshgrid')
    )
    if owner != name:
        raise UserError(
            f'prior_generator ({type(generator).__name__}) finds its places '
            f'as {owner} does: with this head a program has {name}'
        )


def points(generator: Any) -> tuple[PointLevel, ...]:
    _need_generator(generator, 'MlvlPointGenerator')
    one = generator.offset * 2**GEOMETRY_BITS
    return tuple(
        PointLevel((down, across), (round(one * down), round(one * across)))
        for down, across in map(_stride, generator.strides)
    )


def anchors(generator: Any, level: int) -> AnchorLevel:
    _need_generator(generator, 'AnchorGenerator')
    edges = generator.base_anchors[level].double().numpy()
    low, high = edges[:, :2], edges[:, 2:]
    base = np.concatenate([(low + high) / 2, high - low], 1)
    return AnchorLevel(
        _stride(generator.strides[level]),
        np.floor(base * 2**GEOMETRY_BITS + 0.5).astype(np.int32),
    )


def check_deltas(coder: Any) -> None:
    """Raise if a DeltaXYWHBBoxCoder does what a program does not."""
    if coder.add_ctr_clamp or not coder.clip_border:
        raise UserError(
            'bbox_coder: a program has no add_ctr_clamp, and clip_border'
        )


def to_q16(scale: float, fixed_point: FixedPoint) -> Multipliers:
    """Return the multipliers from units of a scale to Q16."""
    return real_multipliers(scale * ONE, 0.0, fixed_point)
