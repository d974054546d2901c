"""Which boxes a detector keeps: its ``test_cfg``, as integers.

Every key of it is either in the program or refused by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log
from typing import Any

from ..errors import UserError
from ..options import Options
from ..program.detector import (
    OVERLAP_BITS,
    SCORE_BITS,
    PostProcess,
    Regions,
)
from ..program.selection import Selection

# As many as a program may say; levels have fewer.
ALL = 2**20
# Below every rank, and below every third output.
NO_THRESHOLD, NO_FACTOR = -(2**48), -(2**31)
# Beyond it a sigmoid is 0 or 1 to 24 bits.
MAX_LOGIT = 16


@dataclass(frozen=True)
class BoxSelection:
    """Which boxes a ``test_cfg`` leaves; every key of it is understood.

    Attributes:
        candidates: Most candidates of a level.
        least: Score that a box must have more of; None for proposals.
        overlap: Largest overlap of two boxes of a class, in 65536ths.
        suppressed: Most boxes that suppression leaves.
        keep: Most boxes of an image.
    """

    candidates: int
    least: float | None
    overlap: int
    suppressed: int
    keep: int


def read_test_cfg(
    where: str, cfg: Any, scored: bool, known: Sequence[str] = ()
) -> BoxSelection:
    """Read a ``test_cfg``.

    Args:
        where: How the config calls it.
        cfg: The dict.
        scored: Whether boxes need a score, as all but proposals do.
        known: Further keys, which the caller reads, or which are of masks.

    Raises:
        UserError: Naming what a program has not.
    """
    options = Options(where, cfg)
    options.ignore(*known)
    overlap, suppressed = _read_nms(f'{where}.nms', options.take('nms'))
    if options.take('min_bbox_size', 0) != 0:
        raise UserError(
            f'{where}.min_bbox_size: a program drops boxes of no size alone; '
            'set it to 0'
        )
    candidates = _count(options, 'nms_pre', options.take('nms_pre', -1))
    keep = options.take('max_per_img', None)
    if keep is not None and (type(keep) is not int or keep < 1):
        raise UserError(
            f'{where}.max_per_img={keep!r}: expected a whole number above 0'
        )
    least = None
    if scored:
        least = _share(options, 'score_thr', options.take('score_thr', 0))
        if least == 1:
            raise UserError(f'{where}.score_thr=1: no score is above it')
    options.finish()
    return BoxSelection(
        candidates=candidates,
        least=least,
        overlap=round(overlap * 2**OVERLAP_BITS),
        suppressed=suppressed,
        keep=min(suppressed, ALL if keep is None else keep),
    )


def _read_nms(where: str, cfg: Any) -> tuple[float, int]:
    """Return the largest overlap of boxes that stay, and how many may."""
    nms = Options(where, cfg)
    overlap = _share(nms, 'iou_threshold', nms.take('iou_threshold'))
    most = nms.take('max_num', -1)
    nms.expect('type', 'nms')
    nms.expect('class_agnostic', False)
    nms.expect('offset', 0)
    if nms.take('score_threshold', 0):
        raise UserError(
            f'{where}.score_threshold: a program compares scores with '
            'score_thr alone, before suppression; set that'
        )
    # Whether classes are suppressed in turn or at once; boxes are the same.
    nms.ignore('split_thr')
    nms.finish()
    return overlap, _count(nms, 'max_num', most)


def _share(options: Options, name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise UserError(
            f'{options.where}.{name}={value!r}: expected a number from 0 to 1'
        )
    return value


def _count(options: Options, name: str, value: Any) -> int:
    """Return a largest number, where -1 stands for no limit."""
    if type(value) is not int or value < -1 or value == 0:
        raise UserError(
            f'{options.where}.{name}={value!r}: expected a whole number above '
            '0, or -1 for no limit'
        )
    return min(value, ALL) if value > 0 else ALL


def least_rank(scores: str, least: float | None, scale: float) -> int:
    """Return the smallest rank whose score is above a threshold.

    Args:
        scores: How good a box is: the kind.
        least: The threshold; None for none.
        scale: Of the logits.
    """
    if least is None:  # of proposals
        return NO_THRESHOLD
    match scores:
        case 'Sigmoid' | 'Product':
            # The first logit whose sigmoid is above it.
            logit = log(least / (1 - least)) if least > 0 else -MAX_LOGIT
            return floor(logit / scale) + 1
        case 'BestClass':  # which takes the threshold itself, too
            return ceil(least * 2 ** (2 * SCORE_BITS))
        case 'Joint':
            return floor(least * 2 ** (2 * SCORE_BITS)) + 1
        case 'GeometricMean':
            return floor(least**2 * 2 ** (2 * SCORE_BITS)) + 1
        case 'Softmax':
            return floor(least * 2**SCORE_BITS) + 1
    raise UserError(f'{scores} is no kind of scores')


def least_factor(test_cfg: Any, scale: float) -> int:
    """Return the smallest third output whose sigmoid is at least ``conf_thr``.

    Args:
        test_cfg: Of the head.
        scale: Of the third output.
    """
    options = Options('model.test_cfg', test_cfg)
    least = _share(options, 'conf_thr', options.take('conf_thr', 0))
    if least in (0, 1):
        return NO_FACTOR if least == 0 else -NO_FACTOR - 1
    return ceil(log(least / (1 - least)) / scale)


def check_selection(model: Any, kept: Selection) -> None:
    """Raise if a detector of one stage keeps other boxes than a config says.

    Args:
        model: The config's model.
        kept: What the detector keeps.

    Raises:
        UserError: Naming the first thing that differs.
    """
    where = 'model.test_cfg'
    cfg = read_test_cfg(
        where, model.test_cfg, scored=True, known=('conf_thr',)
    )
    rank = least_rank(kept.scores, cfg.least, kept.scales[0])
    if 'conf_thr' in model.test_cfg and kept.least is not None:
        least = least_factor(model.test_cfg, kept.scales[2])
        _compare('conf_thr', where, kept.least, least)
    _compare_part(where, kept, cfg, rank)
    _compare_candidates(where, kept, cfg)


def check_two_stages(
    model: Any, proposals: PostProcess, regions: Regions
) -> None:
    """Raise if a detector of two stages keeps other boxes than a config says.

    Args:
        model: The config's model.
        proposals: Of the detector.
        regions: Its second stage.

    Raises:
        UserError: Naming the first thing that differs.
    """
    where = 'model.test_cfg.rpn'
    rpn = read_test_cfg(where, model.test_cfg.rpn, scored=False)
    _compare_part(where, proposals, rpn, NO_THRESHOLD)
    where = 'model.test_cfg.rcnn'
    cfg = read_test_cfg(
        where, model.test_cfg.rcnn, scored=True, known=('mask_thr_binary',)
    )
    assert cfg.least is not None
    rank = floor(cfg.least * 2**SCORE_BITS) + 1
    _compare_part(where, regions, cfg, rank)
    _compare_candidates('model.test_cfg.rpn', proposals, rpn)


def _compare_part(
    where: str,
    part: Selection | PostProcess | Regions,
    cfg: BoxSelection,
    rank: int,
) -> None:
    _compare('score_thr', where, part.threshold, rank)
    _compare('nms.iou_threshold', where, part.overlap, cfg.overlap)
    # YOLOX's head takes no notice of max_per_img.
    if part.keep not in (cfg.keep, cfg.suppressed):
        _compare('max_per_img', where, part.keep, cfg.keep)


def _compare_candidates(
    where: str, part: Selection | PostProcess, cfg: BoxSelection
) -> None:
    most = min(part.candidates, part.total)
    if most != ALL:  # PAA's head counts places instead
        _compare('nms_pre', where, most, cfg.candidates)


def _compare(name: str, where: str, found: int, expected: int) -> None:
    if found != expected:
        raise UserError(
            f'it has another {where}.{name} than the config (as integers '
            f'{found} for {expected})'
        )
