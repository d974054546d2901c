"""Number systems: which integer codes stand for which real values.

A *code* is an integer of a grid, a *level* one of the grid's codes counted
from its lowest, and ``value = (code - zero point) * step`` with ``step = clip
/ (hi - zero point)``: the largest code stands for the clip value.
"""

from dataclasses import dataclass

from ..errors import UserError, nearest
from ..registry import GRIDS

MIN_BITS, MAX_BITS = 2, 8
# The published addition carries a wide integer; 16 bits stand for it.
WIDE_BITS = 16


@dataclass(frozen=True)
class Grid:
    """The codes ``lo, lo + stride, ..., hi``.

    Attributes:
        bits: Width in bits that a code is stored in.
        lo: Smallest code.
        hi: Largest code, which stands for the clip value.
        stride: Distance between neighbouring codes.
    """

    bits: int
    lo: int
    hi: int
    stride: int = 1

    @property
    def levels(self) -> int:
        """Number of distinct codes."""
        return (self.hi - self.lo) // self.stride + 1

    @property
    def codes(self) -> range:
        """All codes in ascending order."""
        return range(self.lo, self.hi + 1, self.stride)


def check_bits(bits: object, name: str = 'bits', wide: bool = False) -> int:
    """Return ``bits`` if it is a possible width.

    Args:
        bits: What a config gave.
        name: How the config calls it, for the message.
        wide: Whether 16 bits, the width of a wide adder, are possible too.

    Raises:
        UserError: If it is anything but an integer from 2 to 8.
    """
    possible = [*range(MIN_BITS, MAX_BITS + 1), *([WIDE_BITS] if wide else [])]
    if type(bits) is not int or bits not in possible:
        raise UserError(
            f'{name}={bits!r} is not a bit width: give an integer from '
            f'{MIN_BITS} to {MAX_BITS}{" or 16" if wide else ""}, or '
            "bits='float' for a detector without quantisation"
        )
    return bits


@GRIDS.register_module(name='unsigned')
def unsigned_grid(bits: int) -> Grid:
    """Codes 0..2^b-1, for activations behind a ReLU (AQD, section 3.1)."""
    return Grid(bits, 0, 2**bits - 1)


@GRIDS.register_module(name='signed')
def signed_grid(bits: int) -> Grid:
    """Codes symmetric about a zero, -127..127 at 8 bits.

    For signed activations, and for weights of 8 bits, whose odd codes would
    reach 255 and not fit int8.
    """
    return Grid(bits, -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1)


@GRIDS.register_module(name='leaky')
def leaky_grid(bits: int) -> Grid:
    """Codes an eighth of which are negative, for SiLU, LeakyReLU and such.

    -1..2 at 2 bits; at 8 bits -32..127, so that a code fits int8.
    """
    lo = -max(1, 2 ** (bits - 3))
    return Grid(bits, lo, min(lo + 2**bits - 1, 127))


@GRIDS.register_module(name='odd')
def odd_grid(bits: int) -> Grid:
    """All 2^b odd codes -n..n, n = 2^b-1, without a zero: AQD's weights."""
    return Grid(bits, 1 - 2**bits, 2**bits - 1, stride=2)


def build_grid(name: str, bits: int) -> Grid:
    """Return the registered grid of a name and a width.

    Args:
        name: ``unsigned``, ``signed``, ``leaky``, ``odd`` or one that a user
            registered in :data:`aqd_mmdet.registry.GRIDS`.
        bits: Width in bits, already checked.

    Raises:
        UserError: If no grid has that name.
    """
    make = GRIDS.get(name)
    if make is None:
        raise UserError(
            f'no grid is called {name!r} '
            f'({nearest(str(name), GRIDS.module_dict)})'
        )
    return make(bits)


def activation_grid(name: str, bits: int) -> Grid:
    """Return the registered grid of activations of a name and a width.

    A program's grids are ranges of codes without gaps.

    Args:
        name, bits: As of :func:`build_grid`.

    Raises:
        UserError: If no grid has that name, or its codes are not neighbours.
    """
    grid = build_grid(name, bits)
    if grid.stride != 1:
        raise UserError(
            f'the grid {name!r} has codes at a distance of {grid.stride}: '
            'expected one without gaps for activations; take '
            "'signed', 'unsigned' or 'leaky'"
        )
    return grid


def weight_grid(bits: int) -> Grid:
    """Return the grid of weights: odd below 8 bits, signed at 8."""
    return build_grid('odd' if bits < MAX_BITS else 'signed', bits)
