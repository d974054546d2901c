"""The reference executor: the contract in numpy, integers only.

It is for truth, not for speed. docs/integer_contract.md, section 3, has a
paragraph for each function here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..program import ops as ir

Tensors = Mapping[str, np.ndarray]


def run(
    program: ir.Program,
    image: np.ndarray,
    see: Callable[[ir.Op, np.ndarray], None] | None = None,
) -> dict[str, np.ndarray]:
    """Run a program on a batch.

    Args:
        program: The program.
        image: Pixels, uint8 (N, C, H, W), channels in the network's order.
        see: Called with each operator and its output.

    Returns:
        dict: The outputs by name, int32 (N, C, H, W).
    """
    last = program.last_uses()
    tensors: dict[str, np.ndarray] = {'image': image}
    for position, op in enumerate(program.ops):
        values = EXECUTE[type(op)](op, tensors, program)
        assert np.issubdtype(values.dtype, np.integer), op
        tensors[op.output] = values.astype(op.grid.dtype)
        if see is not None:
            see(op, tensors[op.output])
        for name in {*op.inputs, op.output}:
            if last.get(name, -1) <= position:
                del tensors[name]
    return {name: tensors[name] for name in program.output_names()}


def image_codes(op: ir.Image, t: Tensors, _: ir.Program) -> np.ndarray:
    """Pixels minus mean."""
    mean = np.array(op.mean, np.int16)[:, None, None]
    return t[op.inputs[0]].astype(np.int16) - mean


def region_codes(op: ir.Region, t: Tensors, _: ir.Program) -> np.ndarray:
    """What :func:`aqd_mmdet.runtime.regions.align` made."""
    return t[op.inputs[0]]


def pad(x: np.ndarray, padding: ir.Size, value: int) -> np.ndarray:
    """Return ``x`` (N, C, H, W) with a border of one value."""
    (rows, columns) = padding
    edges = ((0, 0), (0, 0), (rows, rows), (columns, columns))
    return np.pad(x, edges, constant_values=value)


def windows(op: ir.Window, padded: np.ndarray) -> np.ndarray:
    """Return a view (N, C, H, W, kH, kW) of the windows of an operator."""
    reach = tuple(
        d * (k - 1) + 1 for d, k in zip(op.dilation, op.kernel, strict=True)
    )
    slide: Any = np.lib.stride_tricks.sliding_window_view
    view = slide(padded, reach, (2, 3))
    return view[
        :, :, :: op.stride[0], :: op.stride[1], :: op.dilation[0],
        :: op.dilation[1],
    ]  # fmt: skip


def convolution(op: ir.Convolution, t: Tensors, p: ir.Program) -> np.ndarray:
    """Exact sums of products."""
    weights = p.weights[op.weights].codes.astype(np.int32)
    padded = pad(t[op.inputs[0]].astype(np.int32), op.padding, 0)
    view = windows(op, padded)
    per_group, outs = weights.shape[1], len(weights) // op.groups
    n, _, height, width = view.shape[:4]
    sums = np.zeros((n, op.channels, height, width), np.int32)
    for group in range(op.groups):
        read = view[:, group * per_group : (group + 1) * per_group]
        made = slice(group * outs, (group + 1) * outs)
        for row in range(op.kernel[0]):
            for column in range(op.kernel[1]):
                sums[:, made] += np.einsum(
                    'oi,nihw->nohw',
                    weights[made, :, row, column],
                    read[..., row, column],
                    # Integers have no fast product of matrices to go to.
                    optimize=False,
                )
    return sums


def requantize(op: ir.Requantize, t: Tensors, _: ir.Program) -> np.ndarray:
    """Multiply, add, shift, clamp, in int64."""
    table = op.multipliers
    m, b, s = (
        x.astype(np.int64)[:, None, None] for x in (table.m, table.b, table.s)
    )
    wide = (t[op.inputs[0]].astype(np.int64) * m + b) >> s
    return np.clip(wide, op.grid.lo, op.grid.hi)


def max_pool(op: ir.MaxPool, t: Tensors, _: ir.Program) -> np.ndarray:
    """Largest code of a window; the border is the lowest code."""
    padded = pad(t[op.inputs[0]], op.padding, op.grid.lo)
    return windows(op, padded).max((-2, -1))


def add(op: ir.Add, t: Tensors, _: ir.Program) -> np.ndarray:
    """Sum of two, saturated."""
    x, y = (t[name].astype(np.int32) for name in op.inputs)
    return np.clip(x + y, op.grid.lo, op.grid.hi)


def multiply(op: ir.Multiply, t: Tensors, _: ir.Program) -> np.ndarray:
    """Product of two; the second may have one value a map."""
    x, y = (t[name].astype(np.int32) for name in op.inputs)
    return x * y


def mean(op: ir.Mean, t: Tensors, _: ir.Program) -> np.ndarray:
    """Average of each map, rounded."""
    x = t[op.inputs[0]].astype(np.int64)
    count = x.shape[2] * x.shape[3]
    total = x.sum((2, 3), keepdims=True) << (ir.MEAN_BITS + 1)
    return (total + count) // (2 * count)


def lookup(op: ir.Lookup, t: Tensors, _: ir.Program) -> np.ndarray:
    """One entry for each code."""
    return op.table[t[op.inputs[0]].astype(np.int32) - op.first]


def upsample(op: ir.Upsample, t: Tensors, _: ir.Program) -> np.ndarray:
    """Nearest neighbour."""
    x, like = (t[name] for name in op.inputs)
    rows, columns = (
        np.arange(like.shape[axis]) * x.shape[axis] // like.shape[axis]
        for axis in (2, 3)
    )
    return x[:, :, rows[:, None], columns]


def concatenate(op: ir.Concatenate, t: Tensors, _: ir.Program) -> np.ndarray:
    """All channels."""
    return np.concatenate([t[name] for name in op.inputs], axis=1)


def part(op: ir.Slice, t: Tensors, _: ir.Program) -> np.ndarray:
    """Some channels, rows and columns."""
    x = t[op.inputs[0]][:, op.first : op.first + op.channels]
    return x[:, :, op.offset[0] :: op.step[0], op.offset[1] :: op.step[1]]


EXECUTE: dict[type, Callable[..., np.ndarray]] = {
    ir.Image: image_codes,
    ir.Region: region_codes,
    ir.Convolution: convolution,
    ir.Requantize: requantize,
    ir.MaxPool: max_pool,
    ir.Add: add,
    ir.Multiply: multiply,
    ir.Mean: mean,
    ir.Lookup: lookup,
    ir.Upsample: upsample,
    ir.Concatenate: concatenate,
    ir.Slice: part,
}
