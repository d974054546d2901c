"""Real ratios as integers: the one requantisation rule of the contract.

docs/integer_contract.md, section 2: ``q = clamp((a * m + b) >> s, lo, hi)``.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .arrays import Packed32, Packed64, UInt8
from .limits import MAX_BIAS, MAX_SHIFT, expect

# Bits behind the point that a bias has beside an offset of 32 bits.
WIDE_ROOM = 30


@dataclass(frozen=True)
class FixedPoint:
    """The integer side of a recipe: how a program stands for real ratios.

    Attributes:
        multiplier_bits: Width of a multiplier's mantissa, 2 to 31. 24 were
            chosen by measurement: see docs/integer_contract.md, section 10.
    """

    multiplier_bits: int = 24

    def __post_init__(self) -> None:
        bits = self.multiplier_bits
        if type(bits) is not int or not 2 <= bits <= 31:
            raise UserError(
                f'multiplier_bits={bits!r}: give an integer from 2 to 31'
            )


@dataclass(frozen=True)
class Multipliers:
    """The integers of a requantisation, one of each per channel or just one.

    Attributes:
        m: Multipliers, int32 (C,).
        b: Biases, int64 (C,); the half that rounds is in them.
        s: Shifts, uint8 (C,).
    """

    m: Packed32
    b: Packed64
    s: UInt8


def check_multipliers(table: Multipliers, channels: int, where: str) -> None:
    """Raise if multipliers are not of their types and number.

    Args:
        table: The multipliers.
        channels: Channels that they are for.
        where: Whose they are, for the message.

    Raises:
        UserError: If they are not.
    """
    for name, dtype in (('m', np.int32), ('b', np.int64), ('s', np.uint8)):
        array = getattr(table, name)
        expect(
            array.dtype == dtype and array.shape in ((channels,), (1,)),
            f'{where}: {name}',
            f'{np.dtype(dtype)} of {channels} channels or one',
            f'{array.dtype} {array.shape}',
        )
    lengths = (len(table.m), len(table.b), len(table.s))
    expect(len(set(lengths)) == 1, where, 'as many of m, b and s', lengths)


def whole_steps(offset: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return biases, int64, of offsets in whole steps of the target.

    Args:
        offset: The offsets, int64 (C,).
        shift: Shifts of the multipliers, (C,).
    """
    step = np.int64(1) << shift.astype(np.int64)
    return offset * step + (step >> 1)


def _collapsed(what: str, numbers: np.ndarray) -> UserError:
    return UserError(
        f'{what} is worth {np.abs(numbers).max():.3g} steps of the next grid: '
        'its clip value has collapsed; calibrate again'
    )


def real_multipliers(
    ratio: np.ndarray | float,
    offset: np.ndarray | float,
    fixed_point: FixedPoint,
    wide: bool = False,
) -> Multipliers:
    """Return the integers that stand for ``q = round(a * ratio + offset)``.

    Args:
        ratio: Source's scale over the target's step, float64 (C,), or
            one for all.
        offset: In steps of the target, same shape.
        fixed_point: Their width.
        wide: Whether the target has 32 bits. Offsets may then be so large
            that a small ratio loses bits to them; elsewhere they are refused.

    Raises:
        UserError: If a ratio or an offset is too large or not finite.
    """
    width = fixed_point.multiplier_bits
    ratio, offset = np.broadcast_arrays(
        np.atleast_1d(np.asarray(ratio, np.float64)),
        np.atleast_1d(np.asarray(offset, np.float64)),
    )
    if not (np.isfinite(ratio).all() and np.isfinite(offset).all()):
        raise UserError('a step is not finite: train it again')
    # ratio = fraction * 2^exponent with 1/2 <= |fraction| < 1.
    exponent = np.frexp(ratio)[1].astype(np.int64)
    shift = np.where(ratio == 0, MAX_SHIFT, width - exponent)
    shift = np.minimum(shift, MAX_SHIFT)
    if wide:
        room = MAX_BIAS.bit_length() - 1 - np.frexp(offset + 0.5)[1]
        shift = np.minimum(shift, room.clip(WIDE_ROOM))
    m = _half_up(ratio * 2.0**shift)
    # 0.111..1 rounds up to 1.000: the same number with one shift less.
    carry = (np.abs(m) == 2.0**width) & (shift > 0)
    m = np.where(carry, m / 2, m)
    shift = np.where(carry, shift - 1, shift)
    if (shift < 0).any() or (np.abs(m) >= 2.0**width).any():
        raise _collapsed('one unit', ratio)
    b = _half_up((offset + 0.5) * 2.0**shift)
    if (np.abs(b) >= MAX_BIAS).any():
        raise _collapsed('an offset', offset)
    return Multipliers(
        m.astype(np.int32), b.astype(np.int64), shift.astype(np.uint8)
    )


def _half_up(x: np.ndarray) -> np.ndarray:
    return np.floor(x + 0.5)
