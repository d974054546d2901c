"""Arrays as the engine reads and writes them."""

import math
from itertools import combinations

import numpy as np

from ..program.ops import Image, Program

# Numbers of 32 bits in a line of a common cache.
LINE = 16


def channels_last(program: Program, values: np.ndarray) -> np.ndarray:
    """Return inputs (N, C, H, W) as the engine reads them.

    Raises:
        ValueError: If they are something else, or are no pixels where the
            program reads an image.
    """
    first = program.ops[0]
    is_right = values.ndim == 4 and values.shape[1] == first.channels
    # The engine would read what lies behind them.
    if not is_right or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f'expected integers (N, {first.channels}, H, W), got '
            f'{values.dtype} {values.shape}'
        )
    dtype = np.uint8 if isinstance(first, Image) else np.int32
    limits = np.iinfo(dtype)
    if values.size and not np.can_cast(values.dtype, dtype):
        least, largest = values.min(), values.max()
        if least < limits.min or largest > limits.max:
            raise ValueError(
                f'expected integers from {limits.min} to {limits.max}, got '
                f'{least} to {largest}'
            )
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1), dtype)


def need_writable(
    out: dict[str, np.ndarray],
    shapes: dict[str, tuple[int, ...]],
    inputs: np.ndarray,
) -> None:
    """Raise unless the engine can write outputs (N, H, W, C) to arrays.

    Args:
        out: Arrays (N, C, H, W) by the outputs' names.
        shapes: Of the outputs.
        inputs: What is read meanwhile.

    Raises:
        ValueError: With the first array that is something else, or has memory
            in common with another one.
    """
    if out.keys() != shapes.keys():
        raise ValueError(f'out: expected {list(shapes)}, got {list(out)}')
    for name, array in out.items():
        lines = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
        is_right = lines.shape == shapes[name] and lines.dtype == np.int32
        if not (is_right and lines.flags.carray):  # writable, without gaps
            raise ValueError(
                f'out[{name!r}]: expected what run() returned for a batch of '
                'these sizes, int32 with channels innermost in memory, '
                f'got {array.dtype} {array.shape} of strides {array.strides}'
            )
    arrays = {f'out[{name!r}]': array for name, array in out.items()}
    for one, other in combinations([*arrays, 'values'], 2):
        if np.may_share_memory(arrays[one], arrays.get(other, inputs)):
            raise ValueError(
                f'{one} and {other}: expected arrays without memory in common'
            )


def empty_lines(shape: tuple[int, ...]) -> np.ndarray:
    """Return an int32 array that begins with a line of the cache, as the
    engine has a faster way to fill such ones."""
    size = math.prod(shape)
    numbers = np.empty(size + LINE, np.int32)
    first = -numbers.ctypes.data % (4 * LINE) // 4
    return numbers[first : first + size].reshape(shape)
