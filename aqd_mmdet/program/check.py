"""Whether a program that was read can be run: every reference and range."""

from collections.abc import Mapping

import numpy as np

from ..errors import UserError
from . import ops as ir
from .bounds import prove
from .detector import (
    BOX_BITS,
    AnchorLevel,
    Anchors,
    Bins,
    Cells,
    CompiledDetector,
    Curve,
    Decoder,
    Exponents,
    Factored,
    PointLevel,
    Points,
    Product,
    Regions,
    RegionStage,
    Softmax,
)
from .fixed_point import MAX_SHIFT, Multipliers

# Larger ones are mistakes, and would make sizes overflow.
MAX_WINDOW, MAX_CHANNELS, MAX_STRIDE = 255, 2**16, 4096
# Biases of what is no operator, so that sums fit 63 bits.
MAX_BIAS = 2**62
# The area of a square of such a side in pixels, in 256ths, times 2^16 (of an
# overlap) fits 63 bits.
MAX_REACH = 46340
# How many tensors each operator reads; None for any number but none.
INPUTS: dict[type, int | None] = {
    ir.Image: 1,
    ir.Region: 1,
    ir.Convolution: 1,
    ir.MaxPool: 1,
    ir.Requantize: 1,
    ir.Add: 2,
    ir.Multiply: 2,
    ir.Mean: 1,
    ir.Lookup: 1,
    ir.Upsample: 2,
    ir.Concatenate: None,
    ir.Slice: 1,
}


def check_detector(detector: CompiledDetector) -> None:
    """Raise if a detector could not be run to its end.

    Args:
        detector: As it was read.

    Raises:
        UserError: Naming the first part that is wrong.
    """
    program = detector.program
    check_program(program, ir.Image)
    _need(bool(detector.labels), 'the detector', 'one of labels')
    _postprocess(detector)
    if detector.regions is not None:
        _regions(detector.regions, detector)
    pre = detector.preprocess
    _inside((pre.short, pre.long), 1, 2**14, 'the frame')
    _need(pre.short <= pre.long, 'the frame', 'short before long')
    _inside(pre.fill, 0, 255, 'the border')
    right = len(pre.fill) == program.ops[0].channels == 3
    _need(right, 'the border', 'one of three colours')
    reach = pre.long + 2 * max(detector.postprocess.margin, 0)
    _need(reach <= MAX_REACH, 'the margin', 'one whose areas fit 63 bits')


def _postprocess(detector: CompiledDetector) -> None:
    post, program = detector.postprocess, detector.program
    decoder, scores = post.decoder, post.scores
    kinds = 3 if isinstance(scores, Factored) else 2
    count = len(decoder.levels)
    outputs = program.outputs
    if detector.regions is not None:  # which read the other outputs
        outputs = outputs[:kinds]
        _need(kinds == 2, 'post-processing', 'of two kinds of maps')
        _need(post.margin <= 0, 'the margin', 'inside the image')
    maps = [len(out.tensors) for out in outputs]
    right = maps == [count] * kinds
    _need(right, 'outputs', f'{kinds} kinds of {count} levels')
    made = {op.output: op for op in program.ops}
    for name in (name for out in outputs for name in out.tensors):
        right = made[name].grid.dtype == np.int32
        _need(right, f'output {name!r}', 'one of int32')
    classes = len(detector.labels) if detector.regions is None else 1
    classes += isinstance(scores, Softmax)
    coded = 4 * decoder.bins if isinstance(decoder, Bins) else 4
    places: tuple[AnchorLevel | PointLevel, ...] = decoder.levels
    for number, level in enumerate(places):
        where = f'level {number}'
        _inside(level.stride, 1, MAX_STRIDE, where)
        priors = 1
        if isinstance(level, AnchorLevel):
            right = level.base.dtype == np.int32 and level.base.ndim == 2
            _need(right and level.base.shape[1:] == (4,), where, 'anchors')
            priors = len(level.base)
        else:
            _inside(level.offset, -(2**24), 2**24, where)
        found = [made[out.tensors[number]].channels for out in outputs]
        right = found[:2] == [classes * priors, coded * priors]
        right &= found[2:] == [priors] * (kinds - 2)
        _need(right, where, 'maps of its anchors and of the labels')
    _decoder(decoder)
    _wide(scores.logits, 1, 'scores')
    if isinstance(scores, Softmax):
        _powers(scores.exp)
    else:
        _curve(scores.curve, -(2**20), 2**20, 'sigmoid', 2**24)
    if isinstance(scores, Factored):
        _wide(scores.factors, 1, 'factors')
    if isinstance(scores, Product):
        _inside((scores.least,), -(2**31), 2**31, 'factors')
    counts = (post.candidates, post.total, post.keep)
    _inside(counts, 1, 2**20, 'candidates')
    _inside((post.margin,), -1, 2**14, 'the margin')
    _inside((post.overlap,), 0, 2**16, 'overlap')
    _inside((post.threshold,), -(2**48), 2**48, 'threshold')


def _regions(regions: Regions, detector: CompiledDetector) -> None:
    _need(bool(regions.stages), 'the second stage', 'one of stages')
    for number, stage in enumerate(regions.stages):
        where = f'stage {number}'
        _region_stage(stage, detector, where)
        check_program(stage.program, ir.Region)
        outputs = stage.program.outputs
        right = [len(out.tensors) for out in outputs] == [1, 1]
        _need(right, where, 'a program of logits and box codes')
        sizes = stage.program.sizes((stage.bins, stage.bins))
        made = {op.output: op for op in stage.program.ops}
        logits, codes = (made[out.tensors[0]] for out in outputs)
        for op in (logits, codes):
            right = sizes[op.output] == (1, 1) and op.grid.dtype == np.int32
            _need(right, where, 'a program of one int32 a region and channel')
        classes = len(detector.labels)
        right = logits.channels == classes + 1
        _need(right, where, 'a program of all labels and the background')
        right = codes.channels in (4, 4 * classes)
        _need(
            right, where, 'a program of four box codes, of each label or one'
        )
    _inside((regions.limit,), 1, 2**20, 'the limit of exponents')
    _curve(regions.exp, -regions.limit, regions.limit, 'exp', 2**30)
    _powers(regions.powers)
    _inside((regions.threshold,), 0, 2**25, 'threshold')
    _inside((regions.overlap,), 0, 2**16, 'overlap')
    _inside((regions.keep,), 1, 2**20, 'boxes')


def _region_stage(
    stage: RegionStage, detector: CompiledDetector, where: str
) -> None:
    outputs = detector.program.outputs
    _inside((stage.features,), 0, len(outputs) - 1, where)
    names = outputs[stage.features].tensors
    right = len(names) == len(stage.strides) > 0
    _need(right, where, 'one that reads a map of each stride')
    right = stage.bins % stage.program.stride == 0
    _need(right, where, 'one of a program of its bins')
    _inside(stage.strides, 1, MAX_STRIDE, where)
    _inside((stage.finest,), 1, 2**14, where)
    # So that the area where the last map begins fits 63 bits.
    last = stage.finest << (BOX_BITS + len(names) - 1)
    _need(last < 2**30, where, 'one of few maps')
    _inside((stage.bins,), 1, 64, where)
    _inside((stage.samples,), 0, 64, where)
    made = {op.output: op for op in detector.program.ops}
    first = stage.program.ops[0]
    for name in names:
        grid = made[name].grid
        # So that the sum of a bin fits 63 bits.
        _inside((grid.lo, grid.hi), -(2**15), 2**15, where)
        # What lies outside of a map counts as 0.
        low, high = (
            x << ir.MEAN_BITS for x in (min(grid.lo, 0), max(grid.hi, 0))
        )
        _need(_holds(first.grid, low, high), where, 'one of its codes')
        right = made[name].channels == first.channels
        _need(right, where, 'one of its channels')
    _wide(stage.logits, 1, where)
    _wide(stage.deltas, 4, where)


def _decoder(decoder: Decoder) -> None:
    match decoder:
        case Anchors():
            _wide(decoder.deltas, 4, 'deltas')
        case Cells():
            _wide(decoder.codes, 4, 'deltas')
            _curve(decoder.sigmoid, -(2**20), 2**20, 'sigmoid', 2**16)
        case Points():
            right = len(decoder.distances) == len(decoder.levels)
            _need(right, 'distances', 'one of each level')
            for table in decoder.distances:
                _wide(table, 4, 'distances')
        case Exponents():
            _wide(decoder.codes, 4, 'exponents')
            right = len(decoder.edges) == len(decoder.levels)
            _need(right, 'edges', 'one of each level')
            _inside(decoder.edges, 1, 2**24, 'edges')
        case Bins():
            _inside((decoder.bins,), 1, 64, 'bins')
            _wide(decoder.codes, 1, 'bins')
            _powers(decoder.exp)
    if isinstance(decoder, (Anchors, Cells, Exponents)):
        limit = decoder.limit
        _inside((limit,), 1, 2**20, 'the limit of exponents')
        _curve(decoder.exp, -limit, limit, 'exp', 2**30)


def check_program(program: ir.Program, first: type[ir.Op]) -> None:
    """Raise if a program refers to what is not there, or could overflow.

    Args:
        program: The program.
        first: Kind of the operator that reads what is given.
    """
    made: dict[str, ir.Op] = {}
    _need(bool(program.ops), 'the program', 'one with operators')
    for position, op in enumerate(program.ops):
        where = f'operator {position} ({op.output})'
        _need(
            op.output not in made and op.output != 'image', where,
            'one of a new name',
        )  # fmt: skip
        for name in op.inputs:
            known = name in made or (name, position) == ('image', 0)
            _need(known, where, f'one that reads what exists: {name!r}')
        expected = INPUTS[type(op)]
        _need(
            len(op.inputs) == (expected or max(1, len(op.inputs))),
            where,
            f'one of {expected or "some"} inputs',
        )
        given = isinstance(op, (ir.Image, ir.Region))
        right = isinstance(op, first) if position == 0 else not given
        _need(right, where, 'in place')
        _inside((op.channels,), 1, MAX_CHANNELS, where)
        low, high = op.grid.lo, op.grid.hi
        _inside((low, high), -(2**31) + 1, 2**31 - 1, where)
        _need(low <= high, where, 'one whose codes are in order')
        _operator(op, [made[n] for n in op.inputs if n in made], program)
        made[op.output] = op
    for out in program.outputs:
        for name in out.tensors:
            _need(name in made, f'output {name!r}', 'a tensor of the program')
    _inside((program.stride,), 1, MAX_STRIDE, 'the stride')
    prove(program)


def _operator(op: ir.Op, inputs: list[ir.Op], program: ir.Program) -> None:
    where = f'operator {op.output}'
    channels = [x.channels for x in inputs]
    if isinstance(op, ir.Window):
        _inside((*op.kernel, *op.stride, *op.dilation), 1, MAX_WINDOW, where)
        _inside(op.padding, 0, MAX_WINDOW, where)
    if isinstance(op, ir.Image):
        _inside(op.mean, 0, 255, where)
        _need(len(op.mean) == op.channels, where, 'one of all means')
        _need(_holds(op.grid, -255, 255), where, 'one of its codes')
    elif isinstance(op, ir.Region):
        pass
    elif isinstance(op, ir.Convolution):
        _convolution(op, inputs[0], program.weights)
    elif isinstance(op, ir.Concatenate):
        _need(sum(channels) == op.channels, where, 'one of their channels')
        for x in inputs:
            right = _holds(op.grid, x.grid.lo, x.grid.hi)
            _need(right, where, 'one of their codes')
    elif isinstance(op, ir.Slice):
        _inside((op.first,), 0, channels[0] - op.channels, where)
        _inside(op.step, 1, MAX_WINDOW, where)
        _inside(op.offset, 0, MAX_WINDOW, where)
    else:
        _need(channels[0] == op.channels, where, 'one of its channels')
    if isinstance(op, ir.MaxPool):
        right = all(
            2 * p <= d * (k - 1) + 1
            for p, k, d in zip(op.padding, op.kernel, op.dilation, strict=True)
        )
        _need(right, where, 'a window that sees more than the border')
    if isinstance(op, (ir.MaxPool, ir.Upsample, ir.Slice)):
        grid = inputs[0].grid
        _need(_holds(op.grid, grid.lo, grid.hi), where, 'one of its codes')
    elif isinstance(op, ir.Requantize):
        _multipliers(op.multipliers, op.channels, where)
    elif isinstance(op, ir.Add):
        _need(channels[1] == op.channels, where, 'one of both channels')
        for x in inputs:
            # So that the sum fits int32 before it is saturated.
            _inside((x.grid.lo, x.grid.hi), -(2**30), 2**30, where)
    elif isinstance(op, ir.Multiply):
        _need(channels[1] == op.channels, where, 'one of both channels')
        ends = [
            x * y
            for x in (inputs[0].grid.lo, inputs[0].grid.hi)
            for y in (inputs[1].grid.lo, inputs[1].grid.hi)
        ]
        _need(_holds(op.grid, min(ends), max(ends)), where, 'one of its codes')
    elif isinstance(op, ir.Mean):
        low, high = inputs[0].grid.lo, inputs[0].grid.hi
        # So that the sum of a map of 2^28 pixels fits 63 bits.
        _inside((low, high), -(2**15), 2**15, where)
        low, high = low << ir.MEAN_BITS, high << ir.MEAN_BITS
        _need(_holds(op.grid, low, high), where, 'one of its codes')
    elif isinstance(op, ir.Lookup):
        grid = inputs[0].grid
        right = op.table.dtype == np.int32 and op.first == grid.lo
        right &= op.table.shape == (grid.hi - grid.lo + 1,)
        _need(right, where, 'one with a value for each code')
        low, high = int(op.table.min()), int(op.table.max())
        _need(_holds(op.grid, low, high), where, 'one of its codes')


def _convolution(
    op: ir.Convolution, source: ir.Op, weights: Mapping[str, ir.Weights]
) -> None:
    where = f'operator {op.output}'
    _need(op.weights in weights, where, f'with weights: {op.weights!r}')
    groups = op.groups
    _inside((groups,), 1, source.channels, where)
    right = source.channels % groups == 0 and op.channels % groups == 0
    _need(right, where, 'one whose channels are multiples of its groups')
    shape = (op.channels, source.channels // groups, *op.kernel)
    found = weights[op.weights].shape
    _need(found == shape, where, f'one of weights {shape}, found {found}')
    _need(op.grid == ir.INT32, where, 'one of int32')
    _need(_holds(source.grid, 0, 0), where, 'one whose input has a zero')
    _inside((source.grid.lo, source.grid.hi), -(2**15), 2**15, where)


def _holds(grid: ir.Grid, low: int, high: int) -> bool:
    return grid.lo <= low and high <= grid.hi


def _multipliers(table: Multipliers, channels: int, where: str) -> None:
    shapes = {table.m.shape, table.b.shape, table.s.shape}
    right = shapes in ({(channels,)}, {(1,)})
    right &= table.m.dtype == np.int32 and table.b.dtype == np.int64
    right &= table.s.dtype == np.uint8
    _need(right, where, f'one of {channels} multipliers, or one')
    _need(int(table.s.max()) <= MAX_SHIFT, where, f'shifted by {MAX_SHIFT}')


def _wide(table: Multipliers, channels: int, where: str) -> None:
    """Of numbers of 31 bits: multipliers whose sums fit 63 bits."""
    _multipliers(table, channels, where)
    _inside(
        (int(table.b.min()), int(table.b.max())), -MAX_BIAS, MAX_BIAS, where
    )


def _curve(
    curve: Curve, low: int, high: int, where: str, largest: int
) -> None:
    right = curve.table.dtype == np.int32 and curve.table.ndim == 1
    _need(right, where, 'a table')
    _inside((curve.bits,), 0, 24, where)
    last = curve.first + ((len(curve.table) - 1) << curve.bits)
    _need(curve.first <= low and high < last, where, 'one of its whole range')
    _inside(
        (int(curve.table.min()), int(curve.table.max())), 0, largest, where
    )


def _powers(curve: Curve) -> None:
    _curve(curve, -(2**20), 0, 'exp', 2**24)
    # Shares are divided by their sum, in which one argument is 0.
    one = 1 << curve.bits
    i, r = -curve.first >> curve.bits, -curve.first & (one - 1)
    left, right = (int(x) for x in curve.table[i : i + 2])
    at_zero = (left * (one - r) + right * r + (one >> 1)) >> curve.bits
    _need(at_zero > 0, 'exp', 'above 0 at 0')


def _inside(values: tuple[int, ...], low: int, high: int, where: str) -> None:
    right = all(low <= value <= high for value in values)
    _need(right, where, f'between {low} and {high}: {values}')


def _need(right: bool, where: str, what: str) -> None:
    if not right:
        raise UserError(f'{where} is not {what}')
