"""Single layers, measured as the difference between two chains.

The time of a chain of five links minus the time of a chain of one link is the
time of four links. Each link reads the codes of the previous one. Everything
before and after the links (the image, a narrow convolution that widens it, an
output of one pixel) is the same in both chains and cancels.
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

LONG, SHORT = 5, 1  # links of the two chains
IDENTITY = Multipliers(
    np.ones(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.uint8)
)
# For each bit width, the step of a uniform quantiser that minimises the mean
# squared error of a standard normal distribution (Max, 1960).
GAUSSIAN_STEP = {8: 4 / 127, 4: 0.335, 3: 0.586, 2: 0.996}


@dataclass(frozen=True)
class Chain:
    """A sequence of convolutions with ReLU.

    Attributes:
        name: Name on the command line.
        widths: Input and output channels of the convolutions in one link. The
            last output width equals the first input width, so that links can
            be repeated.
        kernel: Side of the square kernels.
        size: Height and width of the feature maps.
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
        """Multiply-accumulates of one link."""
        weights = sum(a * b for a, b in self.widths) * self.kernel**2
        return weights * self.size[0] * self.size[1]

    def layers(self, links: int) -> Iterator[tuple[int, int, int]]:
        """Yield input channels, output channels and kernel side of each
        convolution."""
        yield 3, self.widths[0][0], 1
        for _ in range(links):
            for channels, out in self.widths:
                yield channels, out, self.kernel


def normal_weights(
    shape: tuple[int, ...], bits: int, rng: np.random.Generator
) -> ir.Weights:
    """Return normally distributed weights, as training produces them.

    Args:
        shape: Shape of the kernel, OIHW.
        bits: Bit width.
        rng: Source of the weights.
    """
    values = rng.standard_normal(shape) / GAUSSIAN_STEP[bits]
    if bits == 8:
        codes = np.clip(np.round(values), -127, 127)
    else:
        half = 2 ** (bits - 1)
        codes = 2 * np.clip(np.floor(values), -half, half - 1) + 1
    return ir.Weights.of(codes.astype(np.int8), bits)


def chain_detector(chain: Chain, bits: int, links: int) -> CompiledDetector:
    """Return a chain as a detector, because model files hold only detectors.

    Args:
        chain: The chain.
        bits: Bit width of weights and activations.
        links: Number of links.
    """
    ops, weights = _chain_ops(chain, bits, links)
    last = ops[-1].output
    grid = ops[-1].grid
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


def _chain_ops(
    chain: Chain, bits: int, links: int
) -> tuple[list[ir.Op], dict[str, ir.Weights]]:
    rng = np.random.default_rng(0)
    ops: list[ir.Op] = [
        ir.Image('0', ('image',), 3, ir.Grid(-255, 255), (128,) * 3)
    ]
    weights = {}
    grid = ir.Grid(0, 2**bits - 1)
    mean_square = 128.0**2 / 3  # of a layer's input codes
    for number, (channels, out, side) in enumerate(chain.layers(links), 1):
        name = f'w{number}'
        weights[name] = normal_weights(
            (out, channels, side, side), bits if number > 1 else 8, rng
        )
        variance = channels * side * side * mean_square
        variance *= np.mean(np.square(weights[name].codes, dtype=float))
        # Clip at two standard deviations: about 2 % of the sums exceed it.
        step = 2 * np.sqrt(variance) / grid.hi
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
        mean_square = grid.hi**2 / 8
    return ops, weights


def _postprocess() -> PostProcess:
    curve = Curve(np.zeros(4, np.int32), -(2**20), 20)
    level = AnchorLevel((1, 1), np.array([[0, 0, 4096, 4096]], np.int32))
    identities = Multipliers(
        *(np.repeat(x, 4) for x in vars(IDENTITY).values())
    )
    return PostProcess(
        Anchors((level,), identities, 1000, curve),
        Sigmoid(IDENTITY, curve),
        0,
        1,
        1,
        0,
        0,
        1,
    )
