"""Limits of the numbers in a file: docs/file_format.md, section 9."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError


@dataclass(frozen=True)
class Limit:
    """A range of integers, both ends included."""

    least: int
    most: int


# Of an integer in the JSON, and of a code.
MAX_INTEGER = 2**63 - 1
MAX_CODE = 2**31 - 1
# A bias, with its shift, leaves a bit of 63 to the product.
MAX_BIAS = 2**62
# At this shift a multiplier that has lost all its bits is wrong by less than
# 2^-48, and 2^31 accumulated units by less than 2^-16 of a step.
MAX_SHIFT = 47
# Larger ones are mistakes, and would make sizes overflow.
MAX_CHANNELS, MAX_STRIDE, MAX_WINDOW, MAX_SIDE = 2**16, 4096, 255, 2**14
MAX_COUNT, MAX_BINS = 2**20, 64
# Of a tensor while a program runs.
TENSOR_SIDE = Limit(1, 2**16)
# Exponents are Q16 numbers: exp(16) is near 2^23.
MAX_EXPONENT = 2**20

_CODE = Limit(-MAX_CODE, MAX_CODE)
_WINDOW, _STRIDE = Limit(1, MAX_WINDOW), Limit(1, MAX_STRIDE)
_SIDE, _COUNT = Limit(1, MAX_SIDE), Limit(1, MAX_COUNT)
_BYTE, _OVERLAP = Limit(0, 255), Limit(0, 2**16)
_EXPONENT = Limit(1, MAX_EXPONENT)

# Keys are "Class.field"; the limits of a class hold for those that derive from
# it. The limit of a tuple or an array holds for each of its numbers.
LIMITS: Mapping[str, Limit] = {
    'Array.shape': Limit(0, 2**31 - 1),
    'Grid.lo': _CODE,
    'Grid.hi': _CODE,
    'Multipliers.s': Limit(0, MAX_SHIFT),
    # Except in Requantize, where prove() bounds it with the product.
    'Multipliers.b': Limit(-MAX_BIAS, MAX_BIAS),
    # Of biases in whole steps: with their shifts they are below 2^62.
    'Multipliers.offset': Limit(-(2**14), 2**14),
    'Curve.bits': Limit(0, 24),
    'Program.stride': _STRIDE,
    'Weights.bits': Limit(2, 8),
    'Weights.shape': Limit(1, 2**31 - 1),
    'Op.channels': Limit(1, MAX_CHANNELS),
    'Image.mean': _BYTE,
    'Window.kernel': _WINDOW,
    'Window.stride': _WINDOW,
    'Window.padding': Limit(0, MAX_WINDOW),
    'Window.dilation': _WINDOW,
    'Lookup.rows': Limit(0, MAX_CHANNELS - 1),
    'Slice.offset': Limit(0, MAX_WINDOW),
    'Slice.step': _WINDOW,
    'PreProcess.short': _SIDE,
    'PreProcess.long': _SIDE,
    'PreProcess.fill': _BYTE,
    'PostProcess.threshold': Limit(-(2**48), 2**48),
    'PostProcess.candidates': _COUNT,
    'PostProcess.total': _COUNT,
    'PostProcess.margin': Limit(-1, MAX_SIDE),
    'PostProcess.overlap': _OVERLAP,
    'PostProcess.keep': _COUNT,
    'Product.least': Limit(-(2**31), 2**31),
    'AnchorLevel.stride': _STRIDE,
    'PointLevel.stride': _STRIDE,
    'PointLevel.offset': Limit(-(2**24), 2**24),
    'Anchors.limit': _EXPONENT,
    'Cells.limit': _EXPONENT,
    'Exponents.limit': _EXPONENT,
    'Exponents.edges': Limit(1, 2**24),
    'Bins.bins': Limit(1, MAX_BINS),
    'Regions.limit': _EXPONENT,
    'Regions.threshold': Limit(0, 2**25),
    'Regions.overlap': _OVERLAP,
    'Regions.keep': _COUNT,
    'RegionStage.strides': _STRIDE,
    'RegionStage.finest': _SIDE,
    'RegionStage.bins': Limit(1, MAX_BINS),
    'RegionStage.samples': Limit(0, MAX_BINS),
    'length of labels': Limit(1, 2**16),
}


def limit_of(cls: type, field: str) -> Limit | None:
    """Return the limit of a field of a class, or None if it has none."""
    for base in cls.__mro__:
        limit = LIMITS.get(f'{base.__name__}.{field}')
        if limit is not None:
            return limit
    return None


def expect(ok: bool, where: str, expected: str, found: Any) -> None:
    """Raise if something in a program or its file is not as it must be.

    Args:
        ok: Whether it is.
        where: Place in the program or the file.
        expected: What must be there, to be read behind "expected".
        found: What is there.

    Raises:
        UserError: In one line, if it is not.
    """
    if not ok:
        raise UserError(f'{where}: expected {expected}, found {found}')


def expect_within(limit: Limit, where: str, low: int, high: int) -> None:
    """Raise if numbers are beyond a limit.

    Args:
        limit: The limit.
        where: Place in the program or the file.
        low: Smallest of the numbers.
        high: Largest of them.

    Raises:
        UserError: If one of them is beyond it.
    """
    found = low if low == high else f'{low} to {high}'
    expect(
        limit.least <= low and high <= limit.most,
        where,
        f'{limit.least} to {limit.most}',
        found,
    )
