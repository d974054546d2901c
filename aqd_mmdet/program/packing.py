"""Levels of a few bits in bytes, without gaps: docs/file_format.md."""

import numpy as np


def pack(levels: np.ndarray, bits: int) -> np.ndarray:
    """Return levels 0..2^bits-1 as bytes, the first in the lowest bits."""
    flat = levels.reshape(-1, 1).astype(np.uint8)
    table = (flat >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(table.reshape(-1), bitorder='little')


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Undo :func:`pack`; the result is uint8 (count,)."""
    # Eight levels are `bits` whole bytes.
    groups = -(-count // 8)
    whole = np.zeros((groups, bits), np.uint8)
    whole.reshape(-1)[: len(packed)] = packed
    words = np.zeros(groups, np.uint64)
    for byte in range(bits):
        words |= whole[:, byte].astype(np.uint64) << np.uint64(8 * byte)
    levels = np.empty((groups, 8), np.uint8)
    for level in range(8):
        shifted = words >> np.uint64(level * bits)
        levels[:, level] = (shifted & np.uint64(2**bits - 1)).astype(np.uint8)
    return levels.reshape(-1)[:count]


def first_and_stride(bits: int) -> tuple[int, int]:
    """Return the code of level 0 and the distance of neighbouring codes.

    The two grids of weights: odd codes, and -127..127 at 8 bits.
    """
    return (1 - 2**bits, 2) if bits < 8 else (-127, 1)
