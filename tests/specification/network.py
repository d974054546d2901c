"""Programs and the network's image: sections 2, 3 and 6 of the contract.

Written from `docs/integer_contract.md` alone. All tensors are int64.
"""

from math import isqrt

import numpy as np

from tests.specification import records as of
from tests.specification.records import Integers

Size = tuple[int, int]


def requantize(
    a: Integers, table: of.Multipliers, lo: int, hi: int
) -> Integers:
    """Section 2; the last axis of `a` are the channels."""
    return np.clip((a * table.m + table.biases) >> table.s, lo, hi)


# Section 3: operators


def run(program: of.Program, image: Integers) -> list[list[Integers]]:
    """The raw outputs of a program: tensors of each kind and level.

    Args:
        program: A network, or the program of a stage.
        image: What its first operator reads, [channels, height, width].

    Raises:
        ValueError: A size is refused.
    """
    demand(all(n % program.stride == 0 for n in image.shape[1:]), 'the stride')
    tensors = {'image': image}
    for op in program.ops:
        inputs = [tensors[name] for name in op.inputs]
        values = operate(op, inputs, program)
        demand(all(1 <= n <= 65536 for n in values.shape[1:]), 'a tensor')
        tensors[op.output] = values
    return [
        [tensors[name] for name in output.tensors]
        for output in program.outputs
    ]


def demand(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f'the size of {what} is refused')


def operate(
    op: of.Op, inputs: list[Integers], program: of.Program
) -> Integers:
    x, y = inputs[0], inputs[-1]
    (h, w), (height, width) = x.shape[1:], y.shape[1:]
    lo, hi = op.grid.lo, op.grid.hi
    match op:
        case of.Image():
            return x - np.array(op.mean).reshape(-1, 1, 1)
        case of.Region():
            return x
        case of.Convolution():
            x = x - np.array(op.zero).reshape(-1, 1, 1)
            return convolve(op, x, program.weights[op.weights].codes())
        case of.MaxPool():
            largest = np.full((len(x), *window_size(op, x)), lo)
            for _, _, taps in windows(op, x, lo):
                largest = np.maximum(largest, taps)
            return largest
        case of.Requantize():
            return requantize(x.T, op.multipliers, lo, hi).T
        case of.Add():
            demand(x.shape == y.shape, 'an addend')
            return np.clip(x + y, lo, hi)
        case of.Multiply():
            demand(y.shape[1:] in ((1, 1), (h, w)), 'a factor')
            return x * y
        case of.Mean():
            n = h * w
            sums = x.sum(axis=(1, 2), keepdims=True)
            return (2 * sums * 256 + n) // (2 * n)
        case of.GroupNorm():
            parts = [
                group_norm(part, op.epsilon, lo, hi)
                for part in np.split(x, op.groups)
            ]
            return np.concatenate(parts)
        case of.Lookup():
            table = np.concatenate(op.table)
            n = len(table) // (max(op.rows) + 1)
            return table[
                np.array(op.rows).reshape(-1, 1, 1) * n + x - op.first
            ]
        case of.Upsample():
            rows = np.arange(height) * h // height
            return x[:, rows][:, :, np.arange(width) * w // width]
        case of.Concatenate():
            demand(len({i.shape[1:] for i in inputs}) == 1, 'an input')
            return np.concatenate(inputs)
        case of.Slice():
            part = x[op.first : op.first + op.channels]
            (i, j), (di, dj) = op.offset, op.step
            return part[:, i::di, j::dj]
    raise TypeError(f'no such operator: {op}')


def group_norm(x: Integers, epsilon: int, lo: int, hi: int) -> Integers:
    """One group of channels."""
    n = x.size
    demand(n <= 1 << 32, 'a group')
    total = int(x.sum())
    m0 = total // n
    d = total - n * m0
    squares = int(((x - m0) ** 2).sum())
    mean = (d << 16) // n
    v = ((squares // n) << 16) + ((squares % n) << 16) // n
    v += epsilon - ((mean * mean) >> 16)
    e = 0
    while v << (2 * e + 2) < 1 << 62:
        e += 1
    r, k = (1 << 60) // isqrt(v << (2 * e)), 56 - e
    wide = (((x - m0) << 16) - mean) * r + (1 << (k - 1))
    return np.clip(wide >> k, lo, hi)


def window_size(op: of.Window, x: Integers) -> Size:
    sizes = (
        (length + 2 * op.padding[k] - op.dilation[k] * (op.kernel[k] - 1) - 1)
        // op.stride[k]
        + 1
        for k, length in enumerate(x.shape[1:])
    )
    height, width = sizes
    demand(min(height, width) >= 1, 'a window')
    return height, width


def windows(
    op: of.Window, x: Integers, outside: int
) -> list[tuple[int, int, Integers]]:
    """(v, u, what the tap (v, u) of each window reads)."""
    (p, q), (height, width) = op.padding, window_size(op, x)
    x = np.pad(x, ((0, 0), (p, p), (q, q)), constant_values=outside)
    taps = []
    for v in range(op.kernel[0]):
        for u in range(op.kernel[1]):
            part = x[:, v * op.dilation[0] :, u * op.dilation[1] :]
            part = part[:, :: op.stride[0], :: op.stride[1]]
            taps.append((v, u, part[:, :height, :width]))
    return taps


def convolve(op: of.Convolution, x: Integers, weights: Integers) -> Integers:
    height, width = window_size(op, x)
    groups, inner = op.groups, len(x) // op.groups
    sums = np.zeros((groups, op.channels // groups, height * width), np.int64)
    for v, u, taps in windows(op, x, 0):
        w = weights[:, :, v, u].reshape(groups, -1, inner)
        sums += w @ taps.reshape(groups, inner, -1)
    return sums.reshape(op.channels, height, width)


# Section 6: from bytes to the network's image


def network_image(
    how: of.PreProcess, stride: int, image: Integers
) -> tuple[Integers, Size]:
    """The network's image [3, rows, columns], and its size before the border.

    Raises:
        ValueError: The image is refused.
    """
    demand(
        image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3,
        'the image',
    )
    h, w = image.shape[:2]
    short, long = sorted((h, w))
    demand(short >= 1 and long <= 16384 and long <= 200 * short, 'the image')
    size = resized_size(how, h, w)
    pixels = resize(image.astype(np.int64).transpose(2, 0, 1), size)
    if how.bgr:
        pixels = pixels[::-1]
    framed = (how.long, how.long) if how.whole else size
    rows, columns = ((n + stride - 1) // stride * stride for n in framed)
    frame = np.empty((3, rows, columns), np.int64)
    frame[:] = np.array(how.fill).reshape(3, 1, 1)
    frame[:, : size[0], : size[1]] = pixels
    return frame, size


def resized_size(how: of.PreProcess, h: int, w: int) -> Size:
    if how.stretch:
        return how.long, how.long
    p, q = how.long, max(h, w)
    if how.short * max(h, w) < how.long * min(h, w):
        p, q = how.short, min(h, w)
    return (
        max(1, (2 * h * p + q) // (2 * q)),
        max(1, (2 * w * p + q) // (2 * q)),
    )


def resize(image: Integers, size: Size) -> Integers:
    jy, j2y, fy = (v.reshape(-1, 1) for v in taps(image.shape[1], size[0]))
    jx, j2x, fx = taps(image.shape[2], size[1])
    return (
        image[:, jy, jx] * (2048 - fy) * (2048 - fx)
        + image[:, jy, j2x] * (2048 - fy) * fx
        + image[:, j2y, jx] * fy * (2048 - fx)
        + image[:, j2y, j2x] * fy * fx
        + (1 << 21)
    ) >> 22


def taps(k: int, n: int) -> tuple[Integers, Integers, Integers]:
    """`j`, `j2` and `f` of each output along an axis."""
    i = np.arange(n, dtype=np.int64)
    t = ((2 * i + 1) * k * 2048 - n * 2048) // (2 * n)
    t = np.clip(t, 0, (k - 1) * 2048)
    return t >> 11, np.minimum((t >> 11) + 1, k - 1), t & 2047
