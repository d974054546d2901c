"""Weights of a program, packed as in a file."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from .arrays import UInt8
from .packing import first_and_stride, pack, unpack


@dataclass(frozen=True)
class Weights:
    """The integer weights of a layer.

    They are many, and the engine has its own: codes are unpacked when they
    are read.

    Attributes:
        bits: Width of a level, 2 to 8.
        shape: O, I / groups, kH, kW.
        packed: uint8, levels by :func:`~.packing.pack`.
    """

    bits: int
    shape: tuple[int, ...]
    packed: UInt8

    @classmethod
    def of(cls, codes: np.ndarray, bits: int) -> 'Weights':
        """Return codes, as :attr:`codes` has them, packed."""
        first, stride = first_and_stride(bits)
        levels = (codes.astype(np.int16) - first) // stride
        return cls(bits, codes.shape, pack(levels, bits))

    @property
    def codes(self) -> np.ndarray:
        """int8 (O, I / groups, kH, kW), -127 to 127; odd below 8 bits."""
        first, stride = first_and_stride(self.bits)
        levels = unpack(self.packed, self.bits, prod(self.shape))
        table = (np.arange(2**self.bits) * stride + first).astype(np.int8)
        return table[levels].reshape(self.shape)

    @cached_property
    def magnitudes(self) -> np.ndarray:
        """Sums of the codes' magnitudes of each output, integers (O,)."""
        return np.abs(self.codes).sum((1, 2, 3), np.int64).astype(object)
