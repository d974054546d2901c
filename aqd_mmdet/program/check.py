"""Whether a detector can be run to its end: docs/file_format.md, section 9.

Conditions of several fields are written here and, for one operator, in its
class; the limits of single numbers are in limits.py.
"""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from . import ops as ir
from .bounds import prove
from .check_postprocess import check_postprocess, check_regions
from .detector import CompiledDetector
from .fixed_point import Multipliers
from .limits import LIMITS, expect, expect_within, limit_of

# The area of a square of such a side in pixels, in 256ths, times 2^16 (of an
# overlap) fits 63 bits.
MAX_REACH = 46340
COLOURS = 3


def check_detector(detector: CompiledDetector) -> None:
    """Raise if a detector could not be run to its end.

    Args:
        detector: As it was read or compiled.

    Raises:
        UserError: Naming the first part that is wrong.
    """
    _limits(detector, '')
    expect_within(
        LIMITS['length of labels'],
        'number of labels',
        *[len(detector.labels)] * 2,
    )
    program = detector.program
    check_program(program, ir.Image)
    check_postprocess(detector)
    if detector.regions is not None:
        for stage in detector.regions.stages:
            check_program(stage.program, ir.Region)
        check_regions(detector.regions, detector)
    pre = detector.preprocess
    expect(
        pre.short <= pre.long,
        'preprocess.short',
        f'at most preprocess.long, {pre.long}',
        pre.short,
    )
    for where, count in (
        ('preprocess.fill', len(pre.fill)),
        (f'channels of {program.ops[0].where}', program.ops[0].channels),
    ):
        expect(count == COLOURS, where, f'{COLOURS} colours', count)
    reach = pre.long + 2 * max(detector.postprocess.margin, 0)
    expect(
        reach <= MAX_REACH,
        'preprocess.long plus twice postprocess.margin',
        f'at most {MAX_REACH}, so that areas fit 63 bits',
        reach,
    )


def _limits(value: Any, where: str) -> None:
    """Raise if a number anywhere in a structure is beyond its limit."""
    if isinstance(value, tuple):
        for index, child in enumerate(value):
            _limits(child, f'{where}.{index}'.lstrip('.'))
    elif isinstance(value, dict):
        for key, child in value.items():
            _limits(child, f'{where}.{key}'.lstrip('.'))
    elif is_dataclass(value):
        if isinstance(value, ir.Op):
            where = value.where
        for field in fields(value):
            child = getattr(value, field.name)
            place = f'{where}.{field.name}'.lstrip('.')
            limit = limit_of(type(value), field.name)
            if limit is None:
                _limits(child, place)
            # The biases of Requantize are bounded by prove() instead.
            elif np.size(child) and not (
                isinstance(value, Multipliers)
                and field.name == 'b'
                and where.startswith('operator ')
            ):
                low, high = np.min(child), np.max(child)
                expect_within(limit, place, int(low), int(high))


def check_program(program: ir.Program, first: type[ir.Op]) -> None:
    """Raise if a program refers to what is not there, or could overflow.

    Args:
        program: The program.
        first: Kind of the operator that reads the image or the region.

    Raises:
        UserError: Naming the first part that is wrong.
    """
    by_output: dict[str, ir.Op] = {}
    expect(bool(program.ops), 'the program', 'operators', 'none')
    for name, weights in program.weights.items():
        axes = len(weights.shape)
        expect(axes == 4, f'weights {name}', 'a shape of 4 axes', axes)
    for position, op in enumerate(program.ops):
        _place(op, position, first, by_output)
        op.check(
            [by_output[n] for n in op.inputs if position], program.weights
        )
        by_output[op.output] = op
    for out in program.outputs:
        for name in out.tensors:
            expect(
                name in by_output,
                'outputs of the program',
                'names of its tensors',
                repr(name),
            )
    prove(program)


def _place(
    op: ir.Op, position: int, first: type[ir.Op], earlier: dict[str, ir.Op]
) -> None:
    """Raise if an operator cannot stand where it does."""
    where = f'operator {position} ({op.output})'
    expect(
        op.output not in earlier and op.output != 'image',
        f'{where}.output',
        'a new name',
        repr(op.output),
    )
    known = earlier if position else {'image'}
    for name in op.inputs:
        expect(
            name in known,
            f'{where}.inputs',
            'what an earlier operator makes' if position else "'image'",
            repr(name),
        )
    count = len(op.inputs)
    expect(
        count == op.arity if op.arity else count > 0,
        f'{where}.inputs',
        f'{op.arity or "1 or more"} inputs',
        count,
    )
    kind = type(op).__name__
    if position:
        begins = isinstance(op, (ir.Image, ir.Region))
        expect(not begins, where, 'Image and Region to be first only', kind)
    else:
        expect(isinstance(op, first), where, first.__name__, kind)
    grid = op.grid
    expect(grid.lo <= grid.hi, f'{where}.grid', 'lo up to hi', grid)
