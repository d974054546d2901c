"""Convolutions of an image's space-to-depth layer, against the oracle.

The engine lets them read the image where it can prove that this is the same.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import ops as ir
from tests import kernels, oracle
from tests.factories import detector, engine_of

CODES = ir.Grid(-255, 255)


class Focus:
    """A program of slices, a concatenation and a convolution.

    Attributes:
        step: Rows and columns from a pixel of a slice to the next.
        ops: All operators; a test may change them.
        outputs: Names of the tensors that leave the program.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.step = self.pick([(2, 2), (2, 2), (3, 3), (1, 2), (4, 2)])
        means = tuple(rng.integers(0, 256, 3).tolist())
        zero = (0,)
        if rng.random() < 0.3:
            zero = self.zeros(means) * (self.step[0] * self.step[1])
        self.ops: list[ir.Op] = [
            ir.Image('pixels', ('image',), 3, CODES, means)
        ]
        self.weights: dict[str, ir.Weights] = {}
        offsets = list(product(*map(range, self.step)))
        rng.shuffle(offsets)
        slicing = self.pick([self.at_once, self.by_axes, self.by_axes])
        parts = tuple(slicing(*offset) for offset in offsets)
        self.ops.append(ir.Concatenate('cat', parts, 3 * len(parts), CODES))
        self.convolve('y', zero)
        self.outputs = ['z']

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def zeros(self, means: tuple[int, ...]) -> tuple[int, ...]:
        """Zero points of channels that are bytes, as the image's codes are."""
        return tuple(int(self.rng.integers(-m, 256 - m)) for m in means)

    def put(self, op: ir.Op) -> str:
        self.ops.append(op)
        return op.output

    def slice(self, x: str, offset: tuple, step: tuple) -> str:
        name = f's{len(self.ops)}'
        return self.put(ir.Slice(name, (x,), 3, CODES, 0, offset, step))

    def at_once(self, row: int, column: int) -> str:
        return self.slice('pixels', (row, column), self.step)

    def by_axes(self, row: int, column: int) -> str:
        down, across = self.step
        rows = ((row, 0), (down, 1))
        columns = ((0, column), (1, across))
        x = 'pixels'
        for by in self.pick([(rows, columns), (columns, rows)]):
            x = self.slice(x, *by)
        return x

    def convolve(self, name: str, zero: tuple[int, ...] = (0,)) -> None:
        """Add a convolution of the slices, and a requantisation of it."""
        rng = self.rng
        kernel = tuple(rng.integers(1, 4, 2).tolist())
        padding = tuple(int(rng.integers(0, k)) for k in kernel)
        stride = self.pick([(1, 1), (1, 1), (2, 1), (2, 2)])
        outs, bits = self.pick([1, 5, 16, 24, 33, 70]), self.pick([2, 4, 8])
        ins = next(op for op in self.ops if op.output == 'cat').channels
        levels = rng.integers(0, 2**bits - (bits == 8), (outs, ins, *kernel))
        codes = levels - 127 if bits == 8 else 2 * levels + 1 - 2**bits
        self.weights[name] = ir.Weights.of(codes.astype(np.int8), bits)
        self.put(
            ir.Convolution(
                name, ('cat',), outs, ir.INT32, kernel, stride, padding,
                (1, 1), name, 1, zero,
            )
        )  # fmt: skip
        table = ir.Multipliers(
            rng.integers(-(2**23), 2**23, outs).astype(np.int32),
            rng.integers(-(2**34), 2**34, outs),
            rng.integers(24, 36, outs).astype(np.uint8),
        )
        last = {'y': 'z', 'x': 'w'}[name]
        grid = self.pick([ir.Grid(0, 3), ir.Grid(0, 255), ir.INT32])
        self.put(ir.Requantize(last, (name,), outs, grid, table))

    def change(self, output: str, **fields) -> None:
        """Change the operator that makes a tensor."""
        self.ops = [
            replace(op, **fields) if op.output == output else op
            for op in self.ops
        ]

    def of(self, output: str):
        return next(op for op in self.ops if op.output == output)

    def program(self, stride: int) -> ir.Program:
        outputs = tuple(ir.Output((name,), 1.0) for name in self.outputs)
        return ir.Program(tuple(self.ops), self.weights, outputs, stride)

    def check(self, stride: int = 12) -> None:
        """Compare all instruction sets with the oracle."""
        rng = self.rng
        height, width = rng.integers(2, 5, 2) * 12
        program = self.program(stride)
        pixels = rng.integers(0, 256, (1, 3, height, width), np.uint8)
        tensors = oracle.run(program, pixels[0].tolist())
        whole = replace(detector(), program=program)
        for isa in kernels.names():
            with kernels.chosen(isa):
                found = engine_of(whole, 2).run(program, pixels)
            for name in self.outputs:
                expected = np.array(tensors[name])
                assert np.array_equal(found[name][0], expected), (isa, name)


@pytest.mark.parametrize('seed', range(24))
def test_of_any_steps_and_orders(seed):
    Focus(seed).check()


def channels_apart(focus: Focus) -> None:
    """Each channel of the slices by itself, as PixelUnshuffle orders them."""
    parts = []
    for channel, x in product(range(3), focus.of('cat').inputs):
        part = ir.Slice(
            f'{x}.{channel}', (x,), 1, CODES, channel, (0, 0), (1, 1)
        )
        focus.ops.insert(focus.ops.index(focus.of('cat')), part)
        parts.append(part.output)
    focus.change('cat', inputs=tuple(parts))
    focus.change('y', zero=(0,))


def two_convolutions(focus: Focus) -> None:
    focus.convolve('x')
    focus.outputs.append('w')


def pooled(focus: Focus) -> None:
    z = focus.of('z')
    focus.put(
        ir.MaxPool(
            'pooled', ('z',), z.channels, z.grid, (3, 3), (2, 2), (1, 1),
            (1, 1),
        )
    )  # fmt: skip
    focus.outputs = ['pooled']


def a_slice_leaves(focus: Focus) -> None:
    focus.outputs.append(focus.of('cat').inputs[-1])


def all_slices_leave(focus: Focus) -> None:
    focus.outputs.append('cat')


def grouped_reader(focus: Focus) -> None:
    """What is concatenated is read by a depthwise convolution as well."""
    channels = focus.of('cat').channels
    codes = focus.rng.integers(-127, 128, (channels, 1, 3, 3))
    focus.weights['x'] = ir.Weights.of(codes.astype(np.int8), 8)
    focus.put(
        ir.Convolution(
            'x', ('cat',), channels, ir.INT32, (3, 3), (1, 1), (1, 1), (1, 1),
            'x', channels,
        )
    )  # fmt: skip
    focus.outputs.append('x')


def shared_weights(focus: Focus) -> None:
    y = focus.of('y')
    focus.put(replace(y, output='same', padding=(2, 2)))
    focus.outputs.append('same')


def dilated(focus: Focus) -> None:
    focus.change('y', dilation=(2, 2), padding=(2, 2))


def later_pixels(focus: Focus) -> None:
    """Slices that begin a step later than they could."""
    for op in focus.ops:
        if isinstance(op, ir.Slice):
            offset = tuple(
                o + s * (s > 1)
                for o, s in zip(op.offset, op.step, strict=True)
            )
            focus.change(op.output, offset=offset)


def missing_slice(focus: Focus) -> None:
    inputs = focus.of('cat').inputs[:-1]
    focus.change('cat', inputs=inputs, channels=3 * len(inputs))
    codes = focus.weights['y'].codes[:, : 3 * len(inputs)]
    focus.weights['y'] = ir.Weights.of(codes, focus.weights['y'].bits)
    focus.change('y', zero=(0,))


def slice_twice(focus: Focus) -> None:
    inputs = focus.of('cat').inputs
    focus.change('cat', inputs=(*inputs[:-1], inputs[0]))


def other_zeros(focus: Focus) -> None:
    """Zero points of an image's channel that differ from slice to slice."""
    count = len(focus.of('cat').inputs)
    focus.change('y', zero=focus.zeros(focus.of('pixels').mean * count))


def zero_beyond_bytes(focus: Focus) -> None:
    focus.change('y', zero=(-255,))


CHANGES: list[Callable[[Focus], None]] = [
    channels_apart,
    two_convolutions,
    pooled,
    a_slice_leaves,
    all_slices_leave,
    grouped_reader,
    shared_weights,
    dilated,
    later_pixels,
    missing_slice,
    slice_twice,
    other_zeros,
    zero_beyond_bytes,
]


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('seed', range(3))
def test_of_other_programs(change, seed):
    focus = Focus(100 + seed)
    change(focus)
    focus.check()


def refused(focus: Focus, stride: int, side: int) -> None:
    """Expect that no instruction set takes images of a size."""
    whole = replace(detector(), program=focus.program(stride))
    pixels = np.zeros((1, 3, side, side), np.uint8)
    for isa in kernels.names():
        with kernels.chosen(isa), pytest.raises(UserError, match='not take'):
            engine_of(whole).run(whole.program, pixels)


@pytest.mark.parametrize('seed', range(3))
def test_of_images_whose_sides_are_not_known_to_divide(seed):
    focus = Focus(200 + seed)
    focus.check(stride=1)
    refused(focus, stride=1, side=13)  # slices of two sizes


def test_of_offsets_beyond_a_step():
    """As many slices as there are offsets, but all from the first row."""
    focus = Focus(0)
    down, across = focus.step
    assert down > 1
    parts = tuple(
        focus.slice('pixels', (0, column), focus.step)
        for column in range(down * across)
    )
    focus.ops.sort(key=lambda op: not isinstance(op, ir.Image | ir.Slice))
    focus.change('cat', inputs=parts)
    refused(focus, stride=12, side=24)
