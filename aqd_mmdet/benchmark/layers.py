"""Single layers: chains of convolutions, from whose lengths a layer's time
follows.

A chain of five minus a chain of one is four layers, each reading the codes
of the one before and writing those of the next. What precedes and follows
them (an image, a narrow convolution that widens it, an output of one pixel)
is in both, and cancels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..program import ops as ir
from ..program.detector import (
    AnchorLevel,
    Anchors,
    CompiledDetector,
    Curve,
    PostProcess,
    PreProcess,
    Sigmoid,
)
from ..program.fixed_point import FixedPoint, Multipliers, real_multipliers

LONG, SHORT = 5, 1
IDENTITY = Multipliers(
    np.ones(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.uint8)
)
# Distance of neighbouring weights that rounds a normal distribution of
# deviation 1 with the least squared error (Max, 1960), by bits.
GAUSSIAN_STEP = {8: 4 / 127, 4: 0.335, 3: 0.586, 2: 0.996}


@dataclass(frozen=True)
class Chain:
    """Convolutions with a ReLU, one after another.

    Attributes:
        name: To select it by.
        widths: Channels in and out of the convolutions that are repeated;
            the last one's output is what the first one reads.
        kernel: Side of their windows.
        size: Height and width of their maps.
    """

    name: str
    widths: tuple[tuple[int, int], ...]
    kernel: int
    size: ir.Size

    @property
    def title(self) -> str:
        widths = [self.widths[0][0], *(out for _, out in self.widths)]
        side = self.kernel
        return (
            f'{side}x{side} convolution, {" to ".join(map(str, widths))} '
            f'channels, {self.size[0]}x{self.size[1]}'
        )

    @property
    def macs(self) -> int:
        """Multiplications of one link: all of its convolutions."""
        weights = sum(a * b for a, b in self.widths) * self.kernel**2
        return weights * self.size[0] * self.size[1]

    def layers(self, links: int) -> Iterator[tuple[int, int, int]]:
        """Yield channels in, channels out and side of each convolution."""
        yield 3, self.widths[0][0], 1
        for _ in range(links):
            for channels, out in self.widths:
                yield channels, out, self.kernel


def normal_weights(
    shape: tuple[int, ...], bits: int, rng: np.random.Generator
) -> ir.Weights:
    """Return weights of a normal distribution, as training leaves them."""
    values = rng.standard_normal(shape) / GAUSSIAN_STEP[bits]
    if bits == 8:
        codes = np.clip(np.round(values), -127, 127)
    else:
        half = 2 ** (bits - 1)
        codes = 2 * np.clip(np.floor(values), -half, half - 1) + 1
    return ir.Weights.of(codes.astype(np.int8), bits)


def chain_detector(chain: Chain, bits: int, links: int) -> CompiledDetector:
    """Return a chain as a detector, since files hold nothing else.

    Args:
        chain: The layer.
        bits: Of weights and codes.
        links: How often it is repeated.
    """
    rng = np.random.default_rng(0)
    ops: list[ir.Op] = [
        ir.Image('0', ('image',), 3, ir.Grid(-255, 255), (128,) * 3)
    ]
    weights = {}
    grid = ir.Grid(0, 2**bits - 1)
    square = 128.0**2 / 3  # mean square of the codes that are read
    for number, (channels, out, side) in enumerate(chain.layers(links), 1):
        kind = normal_weights(
            (out, channels, side, side), bits if number > 1 else 8, rng
        )
        name = f'w{number}'
        weights[name] = kind
        terms = channels * side * side * square
        deviation = np.sqrt(
            terms * np.mean(np.square(kind.codes, dtype=float))
        )
        # Four in a hundred of a normal distribution are cut off.
        step = 2 * deviation / grid.hi
        ops += [
            ir.Convolution(
                f'c{number}', (f'{number - 1}',), out, ir.INT32,
                (side, side), (1, 1), (side // 2, side // 2), (1, 1), name, 1,
            ),
            ir.Requantize(
                f'{number}', (f'c{number}',), out, grid,
                real_multipliers(np.full(out, 1 / step), 0, FixedPoint()),
            ),
        ]  # fmt: skip
        square = grid.hi**2 / 8
    last = ops[-1].output
    for name, count in (('cls', 1), ('box', 4)):
        ops += [
            ir.Slice(
                f'{name}.part', (last,), count, grid, 0, (0, 0), chain.size
            ),
            ir.Requantize(name, (f'{name}.part',), count, ir.INT32, IDENTITY),
        ]
    outputs = (ir.Output(('cls',), 1.0), ir.Output(('box',), 1.0))
    program = ir.Program(tuple(ops), weights, outputs, 1)
    return CompiledDetector(
        program,
        PreProcess(
            min(chain.size), max(chain.size), False, (0,) * 3, False, False
        ),
        _postprocess(),
        None,
        ('thing',),
    )


def _postprocess() -> PostProcess:
    curve = Curve(np.zeros(4, np.int32), -(2**20), 20)
    level = AnchorLevel((1, 1), np.array([[0, 0, 4096, 4096]], np.int32))
    four = Multipliers(*(np.repeat(x, 4) for x in vars(IDENTITY).values()))
    return PostProcess(
        Anchors((level,), four, 1000, curve),
        Sigmoid(IDENTITY, curve),
        0,
        1,
        1,
        0,
        0,
        1,
    )
