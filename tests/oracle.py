"""Parts of docs/integer_contract.md in plain Python integers: the oracle.

It covers section 2, section 3 and section 8.2 (averages of a region). For
sections 6, 7 and the rest of 8, aqd_mmdet/runtime has numpy code.

A tensor is a list of channels, a channel is a list of rows, a row is a list of
integers. There is one image at a time, no numpy and no float: the code is slow
and easy to check.
"""

from math import isqrt
from operator import mul
from typing import Any

from aqd_mmdet.program import ops as ir

Tensor = list[list[list[int]]]


def clamp(x: int, lo: int, hi: int) -> int:
    return min(max(x, lo), hi)


def requantized(a: int, m: int, b: int, s: int, lo: int, hi: int) -> int:
    """Section 2: the rounding of all operators."""
    return clamp((a * m + b) >> s, lo, hi)


def image(op: ir.Image, x: Tensor) -> Tensor:
    return [
        [[pixel - mean for pixel in row] for row in channel]
        for channel, mean in zip(x, op.mean, strict=True)
    ]


def at(channel: list[list[int]], y: int, x: int, outside: int) -> int:
    inside = 0 <= y < len(channel) and 0 <= x < len(channel[0])
    return channel[y][x] if inside else outside


def window(
    op: ir.Window, channel: list[list[int]], y: int, x: int, outside: int
) -> list[int]:
    """Return one output's inputs from one channel, row by row."""
    return [
        at(
            channel,
            y * op.stride[0] - op.padding[0] + v * op.dilation[0],
            x * op.stride[1] - op.padding[1] + u * op.dilation[1],
            outside,
        )
        for v in range(op.kernel[0])
        for u in range(op.kernel[1])
    ]


def convolution(op: ir.Convolution, x: Tensor, weights: Any) -> Tensor:
    height, width = op.size({op.inputs[0]: (len(x[0]), len(x[0][0]))})
    per_group = len(x) // op.groups
    outs = op.channels // op.groups
    flat = [
        [w for plane in out for row in plane for w in row] for out in weights
    ]
    zeros = op.zero if len(op.zero) > 1 else op.zero * len(x)
    x = [
        [[q - zero for q in row] for row in channel]
        for channel, zero in zip(x, zeros, strict=True)
    ]
    result = [[[0] * width for _ in range(height)] for _ in flat]
    for group in range(op.groups):
        channels = x[group * per_group : (group + 1) * per_group]
        for row in range(height):
            for column in range(width):
                codes = [
                    q
                    for channel in channels
                    for q in window(op, channel, row, column, 0)
                ]
                for o in range(group * outs, (group + 1) * outs):
                    a = sum(map(mul, flat[o], codes))
                    assert -(2**31) < a < 2**31
                    result[o][row][column] = a
    return result


def requantize(op: ir.Requantize, x: Tensor) -> Tensor:
    table = op.multipliers
    result = []
    for c, channel in enumerate(x):
        k = c if len(table.m) > 1 else 0
        m, b, s = int(table.m[k]), int(table.b[k]), int(table.s[k])
        result.append(
            [
                [requantized(a, m, b, s, op.grid.lo, op.grid.hi) for a in row]
                for row in channel
            ]
        )
    return result


def max_pool(op: ir.MaxPool, x: Tensor) -> Tensor:
    height, width = op.size({op.inputs[0]: (len(x[0]), len(x[0][0]))})
    return [
        [
            [
                max(window(op, channel, row, column, op.grid.lo))
                for column in range(width)
            ]
            for row in range(height)
        ]
        for channel in x
    ]


def add(op: ir.Add, x: Tensor, y: Tensor) -> Tensor:
    return [
        [
            [
                clamp(p + q, op.grid.lo, op.grid.hi)
                for p, q in zip(*rows, strict=True)
            ]
            for rows in zip(*channels, strict=True)
        ]
        for channels in zip(x, y, strict=True)
    ]


def multiply(x: Tensor, y: Tensor) -> Tensor:
    return [
        [
            [
                q
                * (
                    gates[0][0]
                    if len(gates) * len(gates[0]) == 1
                    else gates[row][column]
                )
                for column, q in enumerate(values)
            ]
            for row, values in enumerate(channel)
        ]
        for channel, gates in zip(x, y, strict=True)
    ]


def mean(x: Tensor) -> Tensor:
    result = []
    for channel in x:
        count = len(channel) * len(channel[0])
        total = sum(q for row in channel for q in row)
        result.append([[(2 * total * 256 + count) // (2 * count)]])
    return result


def group_norm(op: ir.GroupNorm, x: Tensor) -> Tensor:
    each = len(x) // op.groups
    result = []
    for first in range(0, len(x), each):
        group = x[first : first + each]
        codes = [q for channel in group for row in channel for q in row]
        n = len(codes)
        m = sum(codes) // n
        d = sum(codes) - n * m
        squares = sum((q - m) ** 2 for q in codes)
        mu = 2**16 * d // n
        v = 2**16 * squares // n - mu**2 // 2**16 + op.epsilon
        e = max(e for e in range(31) if v * 4**e < 2**62)
        r = 2**60 // isqrt(v * 4**e)
        k = 56 - e
        for channel in group:
            rows = []
            for row in channel:
                wide = [
                    (((q - m) * 2**16 - mu) * r + 2 ** (k - 1)) for q in row
                ]
                assert all(abs(a) < 2**63 for a in wide)
                rows.append(
                    [clamp(a >> k, op.grid.lo, op.grid.hi) for a in wide]
                )
            result.append(rows)
    return result


def lookup(op: ir.Lookup, x: Tensor) -> Tensor:
    count = len(op.table) // (max(op.rows) + 1)
    rows = op.rows if len(op.rows) > 1 else op.rows * len(x)
    return [
        [
            [int(op.table[r * count + q - op.first]) for q in row]
            for row in map_
        ]
        for map_, r in zip(x, rows, strict=True)
    ]


def upsample(op: ir.Upsample, x: Tensor, like: Tensor) -> Tensor:
    height, width = len(like[0]), len(like[0][0])
    return [
        [
            [
                channel[row * len(channel) // height][
                    column * len(channel[0]) // width
                ]
                for column in range(width)
            ]
            for row in range(height)
        ]
        for channel in x
    ]


def part(op: ir.Slice, x: Tensor) -> Tensor:
    return [
        [row[op.offset[1] :: op.step[1]] for row in channel]
        for channel in (
            c[op.offset[0] :: op.step[0]]
            for c in x[op.first : op.first + op.channels]
        )
    ]


def execute(op: ir.Op, inputs: list[Tensor], program: ir.Program) -> Tensor:
    """Section 3: one operator."""
    match op:
        case ir.Image():
            return image(op, *inputs)
        case ir.Region():
            return inputs[0]
        case ir.Convolution():
            codes = program.weights[op.weights].codes.tolist()
            return convolution(op, *inputs, codes)
        case ir.Requantize():
            return requantize(op, *inputs)
        case ir.MaxPool():
            return max_pool(op, *inputs)
        case ir.Add():
            return add(op, *inputs)
        case ir.Multiply():
            return multiply(*inputs)
        case ir.Mean():
            return mean(*inputs)
        case ir.GroupNorm():
            return group_norm(op, *inputs)
        case ir.Lookup():
            return lookup(op, *inputs)
        case ir.Upsample():
            return upsample(op, *inputs)
        case ir.Concatenate():
            return [channel for x in inputs for channel in x]
        case ir.Slice():
            return part(op, *inputs)
    raise AssertionError(op)


def axis(
    low: int, high: int, stride: int, bins: int, samples: int, length: int
) -> list[list[list[tuple[int, int]]]]:
    """Section 8.2: for each sample of each bin, its pixels and weights."""
    n = samples or max(1, -(-(high - low) // (bins * stride * 256)))
    result = []
    for i in range(bins):
        bin_samples = []
        for j in range(n):
            above = low * 2 * bins * n + (high - low) * (2 * (i * n + j) + 1)
            below = 2 * bins * n * stride
            p = (2 * above + below) // (2 * below) - 128
            pairs = []
            if -256 <= p <= 256 * length:
                p = clamp(p, 0, 256 * (length - 1))
                k, f = divmod(p, 256)
                pairs = [(k, 256 - f), (min(k + 1, length - 1), f)]
            bin_samples.append(pairs)
        result.append(bin_samples)
    return result


def align(
    x: Tensor, box: list[int], stride: int, bins: int, samples: int
) -> Tensor:
    """Section 8.2: one region of one map."""
    x0, y0, x1, y1 = box
    rows = axis(y0, y1, stride, bins, samples, len(x[0]))
    columns = axis(x0, x1, stride, bins, samples, len(x[0][0]))
    divisor = len(rows[0]) * len(columns[0]) * 256
    result = []
    for channel in x:
        output = []
        for row in rows:
            output_row = []
            for column in columns:
                total = sum(
                    channel[k][h] * wk * wh
                    for down in row
                    for across in column
                    for k, wk in down
                    for h, wh in across
                )
                output_row.append((2 * total + divisor) // (2 * divisor))
            output.append(output_row)
        result.append(output)
    return result


def run(program: ir.Program, pixels: Tensor) -> dict[str, Tensor]:
    """Run a program on one image; return every tensor."""
    tensors = {'image': pixels}
    for op in program.ops:
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.output] = execute(op, inputs, program)
        for channel in tensors[op.output]:
            for row in channel:
                assert all(op.grid.lo <= q <= op.grid.hi for q in row)
    return tensors
