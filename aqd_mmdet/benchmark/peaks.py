"""What this machine can do at most, for the bounds of a profile.

Both rates are measured on one thread, the best of several runs, and multiplied
by the threads of the profile. No machine does better than that, so that a
bound never asks for too much time.
"""

import ctypes
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from ..program import file
from ..program import ops as ir
from ..program.detector import CompiledDetector
from ..runtime.engine import Engine, OpProfile
from .layers import Chain, chain_detector

# 1x1 convolutions whose input and weights lie in an L2 cache, and whose many
# products outweigh all else.
PRODUCTS = Chain('products', ((2048, 64), (64, 2048)), 1, (6, 12))
# Codes of 16 bits. The sums of 2048 products with weights still fit.
WIDE = ir.Grid(0, 1023)
# Kernels that compute one product for each multiply-accumulate.
DENSE = ('direct', 'amx', 'portable')
# Bytes that a copy reads and writes: from an L1 cache to main memory.
BLOCKS = tuple(2**n for n in range(15, 27))
ROUNDS = 30


@dataclass(frozen=True)
class Peaks:
    """Highest rates of this machine, on all threads of a profile.

    Attributes:
        products: Products per second, by the bits of what is multiplied.
        copies: Bytes per second that a copy reads and writes, by how many
            these are together, in ascending order.
    """

    products: dict[int, float]
    copies: dict[int, float]

    def bound(self, op: OpProfile) -> tuple[float, str]:
        """Return the least time of an operator in seconds, and its reason.

        Args:
            op: The operator.

        Returns:
            tuple: The time, and what needs it, ``products`` or ``memory``.
        """
        # Copied in a block that is as large, hence in the same cache.
        fitting = [size for size in self.copies if size >= op.bytes]
        rate = self.copies[min(fitting, default=max(self.copies))]
        times = {'memory': op.bytes / rate}
        if op.products:
            times['products'] = op.products / self.products[op.operand_bits]
        limit = max(times, key=lambda name: times[name])
        return times[limit], limit


def measure(threads: int) -> Peaks:
    """Measure this machine with the instruction set that the engine takes.

    Args:
        threads: Number of threads of the profile.
    """
    return Peaks(
        {bits: threads * x for bits, x in product_rates().items()},
        {size: threads * copy_rate(size) for size in BLOCKS},
    )


def product_rates() -> dict[int, float]:
    """Return the products per second of one thread, by operands' bits."""
    rates = {8: 0.0, 16: 0.0}
    # An instruction set may multiply few bits faster than 8.
    chains = [chain_detector(PRODUCTS, bits, 1) for bits in (8, 2)]
    for compiled in (*chains, _widened(chains[0])):
        program = compiled.program
        engine = Engine(compiled, file.to_bytes(compiled), 1)
        image = np.zeros((1, 3, *PRODUCTS.size), np.uint8)
        out = engine.run(program, image)
        for _ in range(ROUNDS):
            for op in engine.profile(program, image, out):
                if op.kind in DENSE:
                    rate = op.products / op.nanoseconds * 1e9
                    rates[op.operand_bits] = max(rates[op.operand_bits], rate)
    return rates


def _widened(compiled: CompiledDetector) -> CompiledDetector:
    """Let the layers' codes have 16 bits."""
    ops = tuple(
        replace(op, grid=WIDE) if op.output in ('1', '2') else op
        for op in compiled.program.ops
    )
    return replace(compiled, program=replace(compiled.program, ops=ops))


def copy_rate(size: int) -> float:
    """Return the bytes per second that one thread copies.

    Args:
        size: Bytes that are read and written, half of them each.
    """
    source, target = np.ones((2, size // 2), np.uint8)
    repeats = max(1, 2**22 // size)

    def seconds(count: int) -> float:
        begin = perf_counter()
        for _ in range(repeats):
            ctypes.memmove(target.ctypes.data, source.ctypes.data, count)
        return perf_counter() - begin

    seconds(size // 2)
    # Without what a call costs.
    overhead = min(seconds(0) for _ in range(ROUNDS))
    copies = min(seconds(size // 2) for _ in range(ROUNDS))
    return size * repeats / (copies - overhead)
