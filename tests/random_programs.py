"""Programs of operators drawn at random, as networks connect them."""

from dataclasses import replace

import numpy as np

from aqd_mmdet.program import ops as ir

GRIDS = [(0, 3), (0, 3), (0, 7), (0, 255), (-128, 127), (-1024, 1024), (-1, 1)]
CHANNELS = [1, 5, 16, 20, 32, 33]


class RandomProgram:
    """A program that grows by operators drawn at random.

    Attributes:
        tensors: Of codes: name, channels, halvings of the image's size.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: list[ir.Op] = [
            ir.Image('pixels', ('image',), 3, ir.Grid(-255, 255), (9, 99, 200))
        ]
        self.weights: dict[str, ir.Weights] = {}
        self.tensors: list[tuple[ir.Op, int]] = []
        self.sums: list[tuple[ir.Op, int]] = []
        self.convolve(self.ops[0], 0)
        if self.rng.random() < 0.5:
            self.pool()
        for _ in range(self.rng.integers(3, 14)):
            move = self.pick(
                [self.deepen, self.deepen, self.add, self.enlarge]
            )
            move()
            if self.rng.random() < 0.3:
                self.requantize(*self.pick(self.sums or self.tensors))

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def put(self, op: ir.Op) -> ir.Op:
        self.ops.append(op)
        return op

    def name(self) -> str:
        return f't{len(self.ops)}'

    def convolve(self, x: ir.Op, halvings: int) -> None:
        bits, kernel = self.pick([2, 2, 3, 4, 8]), self.pick([1, 3])
        stride = self.pick([1, 1, 2]) if halvings < 3 else 1
        first, step = (1 - 2**bits, 2) if bits < 8 else (-127, 1)
        channels, name = self.pick(CHANNELS), self.name()
        shape = (channels, x.channels, kernel, kernel)
        levels = self.rng.integers(0, 2**bits - (bits == 8), shape)
        codes = (first + step * levels).astype(np.int8)
        self.weights[name] = ir.Weights.of(codes, bits)
        sums = ir.Convolution(
            name, (x.output,), channels, ir.INT32, (kernel, kernel),
            (stride, stride), (kernel // 2, kernel // 2), (1, 1), name, 1,
        )  # fmt: skip
        self.sums.append((self.put(sums), halvings + stride - 1))
        self.requantize(*self.sums[-1])

    def requantize(self, x: ir.Op, halvings: int, grid=None) -> ir.Op:
        grid = ir.Grid(*(grid or self.pick(GRIDS)))
        count = self.pick([1, x.channels])
        rng = self.rng
        table = ir.Multipliers(
            rng.integers(-(2**23), 2**23, count).astype(np.int32),
            rng.integers(-(2**34), 2**34, count),
            rng.integers(20, 40, count).astype(np.uint8),
        )
        op = ir.Requantize(self.name(), (x.output,), x.channels, grid, table)
        self.tensors.append((self.put(op), halvings))
        return op

    def pool(self) -> None:
        """Pool all that reads the first convolution, mostly alike.

        Signs of multipliers differ or not; some are rounded twice.
        """
        sums, halvings = self.sums[0]
        if self.rng.random() < 0.5:
            self.requantize(sums, halvings)
        kernel, stride = self.pick([(3, 2), (2, 2), (3, 1)])
        alike = self.rng.random() < 0.8
        signs = self.rng.choice([-1, 1], sums.channels)
        for i, op in enumerate(self.ops):
            if alike and isinstance(op, ir.Requantize):
                table = op.multipliers
                m = (abs(table.m) * signs[: table.m.size]).astype(np.int32)
                self.ops[i] = replace(op, multipliers=replace(table, m=m))
        rounded, self.tensors, self.sums = self.tensors, [], []
        for x, _ in rounded:
            pooled = ir.MaxPool(
                self.name(), (x.output,), x.channels, x.grid,
                (kernel, kernel), (stride, stride), (kernel % 2, kernel % 2),
                (1, 1),
            )  # fmt: skip
            self.tensors.append((self.put(pooled), halvings + stride - 1))

    def deepen(self) -> None:
        self.convolve(*self.pick(self.tensors))

    def add(self) -> None:
        x, halvings = self.pick(self.tensors)
        alike = [
            (y, h)
            for y, h in self.tensors + self.sums
            if h == halvings and y.channels == x.channels
        ]
        grid = (-1024, 1024)
        terms = [
            self.requantize(*each, grid)
            for each in ((x, halvings), self.pick(alike))
        ]
        names = tuple(term.output for term in terms)
        total = ir.Add(self.name(), names, x.channels, ir.Grid(0, 255))
        self.tensors.append((self.put(total), halvings))
        if self.rng.random() < 0.7:
            self.requantize(total, halvings)

    def enlarge(self) -> None:
        x, _ = self.pick(self.tensors)
        like, halvings = self.pick(self.tensors)
        name = self.name()
        larger = ir.Upsample(name, (x.output, like.output), x.channels, x.grid)
        self.tensors.append((self.put(larger), halvings))
        if like.channels == x.channels:
            terms = (name, like.output)
            low, high = (
                min(x.grid.lo, like.grid.lo),
                max(x.grid.hi, like.grid.hi),
            )
            grid = ir.Grid(low, high)
            total = ir.Add(self.name(), terms, x.channels, grid)
            self.tensors.append((self.put(total), halvings))

    def program(self) -> ir.Program:
        candidates = self.tensors + self.sums
        count = min(len(candidates), 3)
        chosen = self.rng.choice(len(candidates), count, replace=False)
        outputs = tuple(
            ir.Output((candidates[i][0].output,), 1.0) for i in chosen
        )
        return ir.Program(tuple(self.ops), self.weights, outputs, 8)
