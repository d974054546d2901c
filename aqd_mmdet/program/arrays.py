"""Arrays: their types in a program, and their numbers in a file.

A file has the numbers of an array in the fewest bytes that hold all of them.
"""

from typing import Annotated

import numpy as np

from .limits import Limit

UInt8 = Annotated[np.ndarray, np.uint8]
Int32 = Annotated[np.ndarray, np.int32]
Int64 = Annotated[np.ndarray, np.int64]
# Of 24 bits and of about 40, which a file may hold in as many.
Packed32 = Annotated[np.ndarray, np.int32, 'packed']
Packed64 = Annotated[np.ndarray, np.int64, 'packed']
# A table's rows, one behind the other. In a file an array each, so that equal
# rows are stored once; in earlier versions one array.
Rows = Annotated[np.ndarray, np.int32, 'rows']


def _dtype(name: str) -> tuple[int, Limit]:
    """Return the bytes of a number of a type, and its limits."""
    is_signed, bits = name.startswith('int'), int(name.split('int')[1])
    half = 2 ** (bits - 1)
    limit = Limit(-half, half - 1) if is_signed else Limit(0, 2 * half - 1)
    return bits // 8, limit


# Types in a file, the smallest first. Multipliers of 24 bits and their biases
# have types that C has not.
DTYPES = {
    name: _dtype(name)
    for name in (
        *('uint8', 'int8', 'int16', 'uint24'),
        *('int32', 'int40', 'int48', 'int64'),
    )
}
# Bytes of the types that C has, and these.
C_WIDTHS = (1, 2, 4, 8)
C_DTYPES = tuple(name for name, (n, _) in DTYPES.items() if n in C_WIDTHS)


def smallest(array: np.ndarray, widths: tuple[int, ...] = C_WIDTHS) -> str:
    """Return the first type of some widths that holds an array's numbers."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    return next(
        name
        for name, (width, limit) in DTYPES.items()
        if width in widths and limit.least <= low and high <= limit.most
    )


def to_bytes(array: np.ndarray, name: str) -> bytes:
    """Return the numbers of an array, little-endian.

    Args:
        array: Of integers.
        name: Of a type that holds them.
    """
    wide = np.ascontiguousarray(array, '<i8').reshape(-1, 1).view(np.uint8)
    return wide[:, : DTYPES[name][0]].tobytes()


def from_bytes(content: memoryview, name: str) -> np.ndarray:
    """Undo :func:`to_bytes`; the result is int64 (n,)."""
    width, limit = DTYPES[name]
    narrow = np.frombuffer(content, np.uint8).reshape(-1, width)
    wide = np.zeros((len(narrow), 8), np.uint8)
    wide[:, :width] = narrow
    if limit.least < 0:
        wide[narrow[:, -1] >= 128, width:] = 255
    return wide.reshape(-1).view('<i8').astype(np.int64)
