"""Whether what follows a network fits it: docs/file_format.md, section 9."""

from collections.abc import Iterable

import numpy as np

from . import ops as ir
from .detector import (
    BOX_BITS,
    Anchors,
    Bins,
    Cells,
    CompiledDetector,
    Curve,
    Decoder,
    Exponents,
    Factored,
    Points,
    Regions,
    RegionStage,
    Scores,
    Softmax,
)
from .fixed_point import check_multipliers
from .limits import expect

# Arguments that a sigmoid is read at, and the lowest that an exponential is:
# Q16.
LOGIT = 2**20


def check_postprocess(detector: CompiledDetector) -> None:
    """Raise if what follows the network does not fit it.

    Args:
        detector: Whose program and limits were checked.

    Raises:
        UserError: Naming the first condition that does not hold.
    """
    post, program = detector.postprocess, detector.program
    scores, levels = post.scores, post.decoder.levels
    expect(
        bool(levels),
        'postprocess.decoder.levels',
        'one level or more',
        'none',
    )
    kinds = 3 if isinstance(scores, Factored) else 2
    outputs = program.outputs
    if detector.regions is not None:  # which read the other outputs
        outputs = outputs[:kinds]
        name = type(scores).__name__
        expect(
            kinds == 2,
            'postprocess.scores',
            'Sigmoid or Softmax with a second stage',
            name,
        )
        expect(
            post.margin <= 0,
            'postprocess.margin',
            'at most 0 with a second stage',
            post.margin,
        )
    counts = [len(out.tensors) for out in outputs]
    expect(
        counts == [len(levels)] * kinds,
        'outputs of the program',
        f'{kinds} kinds of maps of {len(levels)} levels',
        f'maps of {counts} levels',
    )
    _maps(detector, outputs)
    _scores(scores)
    _decoder(post.decoder)


def _maps(detector: CompiledDetector, outputs: Iterable[ir.Output]) -> None:
    """Raise if the maps of logits, box codes and factors are of other types
    or channels than the head says."""
    post, by_output = detector.postprocess, detector.program.by_output
    decoder = post.decoder
    classes = len(detector.labels) if detector.regions is None else 1
    classes += isinstance(post.scores, Softmax)
    coded = 4 * decoder.bins if isinstance(decoder, Bins) else 4
    for out, each in zip(outputs, (classes, coded, 1), strict=False):
        for number, name in enumerate(out.tensors):
            op = by_output[name]
            _expect_int32(op)
            priors = 1
            if isinstance(decoder, (Anchors, Cells)):
                base = decoder.levels[number].base
                expect(
                    base.dtype == np.int32
                    and base.shape[1:] == (4,)
                    and len(base) > 0,
                    f'anchors of level {number}',
                    'int32 (A, 4), of at least one anchor',
                    f'{base.dtype} {base.shape}',
                )
                priors = len(base)
            expect(
                op.channels == each * priors,
                op.where,
                f'{each * priors} channels, {each} of each of {priors} '
                'anchors or points',
                op.channels,
            )


def _expect_int32(op: ir.Op) -> None:
    expect(
        op.grid.dtype == np.int32, op.where, 'a range of int32', op.grid.dtype
    )


def _scores(scores: Scores) -> None:
    where = 'postprocess.scores'
    check_multipliers(scores.logits, 1, f'{where}.logits')
    if isinstance(scores, Softmax):
        _powers(scores.exp, f'{where}.exp')
    else:
        _curve(scores.curve, (-LOGIT, LOGIT), 2**24, f'{where}.curve')
    if isinstance(scores, Factored):
        check_multipliers(scores.factors, 1, f'{where}.factors')


def _decoder(decoder: Decoder) -> None:
    where, levels = 'postprocess.decoder', len(decoder.levels)
    match decoder:
        case Anchors():
            check_multipliers(decoder.deltas, 4, f'{where}.deltas')
        case Cells():
            check_multipliers(decoder.codes, 4, f'{where}.codes')
            _curve(decoder.sigmoid, (-LOGIT, LOGIT), 2**16, f'{where}.sigmoid')
        case Points():
            count = len(decoder.distances)
            expect(count == levels, f'{where}.distances', f'{levels}', count)
            for number, table in enumerate(decoder.distances):
                check_multipliers(table, 4, f'{where}.distances.{number}')
        case Exponents():
            check_multipliers(decoder.codes, 4, f'{where}.codes')
            count = len(decoder.edges)
            expect(count == levels, f'{where}.edges', f'{levels}', count)
        case Bins():
            check_multipliers(decoder.codes, 1, f'{where}.codes')
            _powers(decoder.exp, f'{where}.exp')
    if isinstance(decoder, (Anchors, Cells, Exponents)):
        limit = decoder.limit
        _curve(decoder.exp, (-limit, limit), 2**30, f'{where}.exp')


def check_regions(regions: Regions, detector: CompiledDetector) -> None:
    """Raise if a second stage does not fit the network.

    Args:
        regions: The second stage, its programs and limits checked.
        detector: Whose it is.

    Raises:
        UserError: Naming the first condition that does not hold.
    """
    expect(bool(regions.stages), 'regions.stages', 'stages', 'none')
    for number, stage in enumerate(regions.stages):
        where = f'regions.stages.{number}'
        _stage_maps(stage, detector, where)
        _stage_outputs(stage, len(detector.labels), where)
        check_multipliers(stage.logits, 1, f'{where}.logits')
        check_multipliers(stage.deltas, 4, f'{where}.deltas')
    limit = regions.limit
    _curve(regions.exp, (-limit, limit), 2**30, 'regions.exp')
    _powers(regions.powers, 'regions.powers')


def _stage_maps(
    stage: RegionStage, detector: CompiledDetector, where: str
) -> None:
    """Raise if a stage cannot read the maps of the network."""
    outputs, by_output = detector.program.outputs, detector.program.by_output
    expect(
        0 <= stage.features < len(outputs),
        f'{where}.features',
        f'an index of the {len(outputs)} outputs of the network',
        stage.features,
    )
    names = outputs[stage.features].tensors
    expect(
        len(names) == len(stage.strides) > 0,
        f'{where}.strides',
        f'one of each of the {len(names)} maps that it reads, at least one',
        len(stage.strides),
    )
    # So that the area where the last map begins fits 63 bits.
    expect(
        stage.finest << (BOX_BITS + len(names) - 1) < 2**30,
        f'{where}.finest',
        f'less than {2**30 >> (BOX_BITS + len(names) - 1)}, by its '
        f'{len(names)} maps',
        stage.finest,
    )
    region = stage.program.ops[0]
    for op in (by_output[name] for name in names):
        # So that the sum of a bin fits 63 bits.
        region.expect_codes(op, ir.MAX_SUMMAND)
        # What lies outside of a map counts as 0.
        grid = ir.Grid(min(op.grid.lo, 0), max(op.grid.hi, 0))
        region.expect_range(grid.scaled(2**ir.MEAN_BITS))
        region.expect(
            region.channels == op.channels,
            f'the {op.channels} channels of {op.output}',
            region.channels,
        )


def _stage_outputs(stage: RegionStage, labels: int, where: str) -> None:
    """Raise if what a stage makes of a region are no logits and box codes."""
    program = stage.program
    expect(
        stage.bins % program.stride == 0,
        f'{where}.bins',
        f'a multiple of {program.stride}, the stride of its program',
        stage.bins,
    )
    counts = [len(out.tensors) for out in program.outputs]
    expect(
        counts == [1, 1],
        f'outputs of {where}',
        'logits and box codes, a tensor each',
        counts,
    )
    sizes = program.sizes((stage.bins, stage.bins))
    logits, codes = (
        program.by_output[out.tensors[0]] for out in program.outputs
    )
    for op in (logits, codes):
        _expect_int32(op)
        size = sizes[op.output]
        expect(size == (1, 1), op.where, 'one value of a region', size)
    for op, counts, what in (
        (logits, [labels + 1], 'the labels and the background'),
        (codes, [4, 4 * labels], 'four codes, of all labels or of each'),
    ):
        expect(
            op.channels in counts,
            op.where,
            f'{" or ".join(map(str, counts))} channels, {what}',
            op.channels,
        )


def _curve(
    curve: Curve, read: tuple[int, int], largest: int, where: str
) -> None:
    """Raise if a curve has not all values that are read, or others.

    Args:
        curve: The curve.
        read: Lowest and highest argument.
        largest: Largest value, the least being 0.
        where: Place in the file.
    """
    table = curve.table
    expect(
        table.dtype == np.int32 and table.ndim == 1,
        f'{where}.table',
        'int32 (n)',
        f'{table.dtype} {table.shape}',
    )
    last = curve.first + ((len(table) - 1) << curve.bits)
    expect(
        curve.first <= read[0] and read[1] < last,
        where,
        f'arguments from {read[0]} to above {read[1]}',
        f'{curve.first} to {last}',
    )
    low, high = int(table.min()), int(table.max())
    expect(
        low >= 0 and high <= largest,
        f'{where}.table',
        f'values from 0 to {largest}',
        f'{low} to {high}',
    )


def _powers(curve: Curve, where: str) -> None:
    _curve(curve, (-LOGIT, 0), 2**24, where)
    # Shares are divided by their sum, in which one argument is 0.
    one = 1 << curve.bits
    i, r = -curve.first >> curve.bits, -curve.first & (one - 1)
    left, right = (int(x) for x in curve.table[i : i + 2])
    at_zero = (left * (one - r) + right * r + (one >> 1)) >> curve.bits
    expect(at_zero > 0, where, 'a value above 0 at 0', at_zero)
