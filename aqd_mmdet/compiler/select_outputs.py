"""Outputs of a program that are channels of its outputs, or limited."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from ..program import ops as ir
from ..program.fixed_point import Multipliers

# An output of the program, the name of what is made of it, and which channels
# it takes in which order; None for the output as it is.
Selection = tuple[int, str, list[int] | None]


def select_outputs(
    program: ir.Program, selections: Sequence[Selection]
) -> ir.Program:
    """Return a program with other outputs.

    Args:
        program: The program.
        selections: What each new output is made of.
    """
    ops = list(program.ops)
    grids = {op.output: op.grid for op in program.ops}
    outputs = []
    for number, name, channels in selections:
        output = program.outputs[number]
        if channels is not None:
            names = []
            for level, tensor in enumerate(output.tensors):
                names.append(f'{name}.{level}')
                ops += _taken(tensor, names[-1], channels, grids[tensor])
            output = replace(output, tensors=tuple(names))
        outputs.append(output)
    return replace(program, ops=tuple(ops), outputs=tuple(outputs))


def _taken(
    source: str, name: str, channels: list[int], grid: ir.Grid
) -> list[ir.Op]:
    """Return operators that take channels of a tensor in some order."""
    # Neighbours are one slice.
    starts = [
        i for i, c in enumerate(channels) if not i or c != channels[i - 1] + 1
    ]
    ends = [*starts[1:], len(channels)]
    slices: list[ir.Op] = [
        ir.Slice(
            f'{name}.{start}',
            (source,),
            end - start,
            grid,
            channels[start],
            (0, 0),
            (1, 1),
        )
        for start, end in zip(starts, ends, strict=True)
    ]
    names = tuple(op.output for op in slices)
    return [*slices, ir.Concatenate(name, names, len(channels), grid)]


def limit_output(
    program: ir.Program,
    number: int,
    name: str,
    levels: Sequence[Sequence[np.ndarray]],
) -> ir.Program:
    """Return a program that limits the channels of an output.

    Args:
        program: The program.
        number: Of the output.
        name: Of what takes its place.
        levels: For each of its levels, the lowest and the highest value of
            each channel, in units of the output's scale; float (C,).
    """
    output = program.outputs[number]
    ops = list(program.ops)
    names = []
    for level, (tensor, ends) in enumerate(
        zip(output.tensors, levels, strict=True)
    ):
        names.append(f'{name}.{level}')
        low, high = (
            np.clip(np.floor(x + 0.5), ir.INT32.lo, ir.INT32.hi) for x in ends
        )
        grids = [
            ir.Grid(int(lo), int(hi)) for lo, hi in zip(low, high, strict=True)
        ]
        ops += _limited(tensor, names[-1], grids)
    outputs = list(program.outputs)
    outputs[number] = replace(output, tensors=tuple(names))
    return replace(program, ops=tuple(ops), outputs=tuple(outputs))


def _limited(source: str, name: str, grids: list[ir.Grid]) -> list[ir.Op]:
    """Return operators that limit each channel of a tensor to a grid."""
    same = Multipliers(
        np.ones(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.uint8)
    )
    ops: list[ir.Op] = []
    parts: list[str] = []
    first = 0
    for grid, channels in groupby(grids):  # neighbours are one slice
        count, part = len(list(channels)), f'{name}.{first}'
        whole = f'{part}.whole'
        ops += [
            ir.Slice(whole, (source,), count, ir.INT32, first, (0, 0), (1, 1)),
            ir.Requantize(part, (whole,), count, grid, same),
        ]
        parts.append(part)
        first += count
    return [*ops, ir.Concatenate(name, tuple(parts), first, ir.INT32)]
