"""Outputs of a program that are channels of its outputs."""

from collections.abc import Sequence
from dataclasses import replace

from ..program import ops as ir

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
