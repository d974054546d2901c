"""A program in PyTorch: for evaluation and training, not for shipping.

Equal to the reference to the last bit, and faster: a convolution runs in
float32 where the bound of its sums is below 2^24, in float64 elsewhere, so
that every partial sum is exact in any order.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..program import ops as ir

# Integers below it are exact in float32, and so are their sums.
FLOAT32_EXACT = 2**24

_DTYPES = {
    'uint8': torch.uint8,
    'int8': torch.int8,
    'int16': torch.int16,
    'int32': torch.int32,
}


class Executor:
    """Runs one program.

    Args:
        program: The program.
        device: Where its constants lie.
    """

    def __init__(
        self, program: ir.Program, device: torch.device | str = 'cpu'
    ) -> None:
        self.program = program
        self.last = program.last_uses()
        self.constants: dict[str, tuple[Tensor, ...]] = {}
        weights: dict[str, Tensor] = {}
        sources = {op.output: op for op in program.ops}
        for op in program.ops:
            if isinstance(op, ir.Convolution):
                if op.weights not in weights:
                    weights[op.weights] = torch.from_numpy(
                        program.weights[op.weights].codes
                    ).to(device)
                grid = sources[op.inputs[0]].grid
                limit = max(abs(grid.lo), abs(grid.hi))
                # As a count of units: weights have at most 2^31 of them.
                total = weights[op.weights].long().abs().sum((1, 2, 3)).max()
                exact = int(total) * limit < FLOAT32_EXACT
                kind = torch.float32 if exact else torch.float64
                self.constants[op.output] = (weights[op.weights].to(kind),)
            elif isinstance(op, ir.Requantize):
                table = op.multipliers
                self.constants[op.output] = tuple(
                    torch.from_numpy(x).long().to(device)[:, None, None]
                    for x in (table.m, table.b, table.s)
                )
            elif isinstance(op, ir.Lookup):
                codes = torch.from_numpy(op.table)
                self.constants[op.output] = (codes.to(device),)

    @torch.no_grad()
    def run(
        self,
        image: Tensor,
        see: Callable[[ir.Op, Tensor], Tensor | None] | None = None,
    ) -> dict[str, Tensor]:
        """Run the program; result as of the reference's.

        Args:
            image: Pixels, uint8 (N, C, H, W).
            see: Called with each operator and its output; what it returns,
                if anything, stands in the output's place from there on.
        """
        # Under autocast a convolution of float32 would run in 16 bits.
        with torch.autocast(image.device.type, enabled=False):
            return self._run(image, see)

    def _run(
        self,
        image: Tensor,
        see: Callable[[ir.Op, Tensor], Tensor | None] | None,
    ) -> dict[str, Tensor]:
        tensors = {'image': image}
        for position, op in enumerate(self.program.ops):
            values = EXECUTE[type(op)](op, tensors, self.constants)
            tensors[op.output] = values.to(_DTYPES[op.grid.dtype.name])
            instead = None if see is None else see(op, tensors[op.output])
            if instead is not None:
                tensors[op.output] = instead
            for name in {*op.inputs, op.output}:
                if self.last.get(name, -1) <= position:
                    del tensors[name]
        return {name: tensors[name] for name in self.program.output_names()}


Tensors = dict[str, Tensor]
Constants = dict[str, tuple[Tensor, ...]]


def _image(op: ir.Image, t: Tensors, _: Constants) -> Tensor:
    pixels = t[op.inputs[0]].to(torch.int16)
    return pixels - pixels.new_tensor(op.mean)[:, None, None]


def _region(op: ir.Region, t: Tensors, _: Constants) -> Tensor:
    return t[op.inputs[0]]


def _convolution(op: ir.Convolution, t: Tensors, c: Constants) -> Tensor:
    (weights,) = c[op.output]
    return F.conv2d(
        t[op.inputs[0]].to(weights.dtype),
        weights,
        None,
        op.stride,
        op.padding,
        op.dilation,
        op.groups,
    )


def _requantize(op: ir.Requantize, t: Tensors, c: Constants) -> Tensor:
    m, b, s = c[op.output]
    wide = t[op.inputs[0]].long().mul(m).add_(b)
    return wide.bitwise_right_shift_(s).clamp_(op.grid.lo, op.grid.hi)


def _max_pool(op: ir.MaxPool, t: Tensors, _: Constants) -> Tensor:
    # Codes have at most 16 bits, which float32 holds exactly.
    x = t[op.inputs[0]].float()
    return F.max_pool2d(x, op.kernel, op.stride, op.padding, op.dilation)


def _add(op: ir.Add, t: Tensors, _: Constants) -> Tensor:
    x, y = (t[name].int() for name in op.inputs)
    return (x + y).clamp_(op.grid.lo, op.grid.hi)


def _multiply(op: ir.Multiply, t: Tensors, _: Constants) -> Tensor:
    x, y = (t[name].int() for name in op.inputs)
    return x * y


def _mean(op: ir.Mean, t: Tensors, _: Constants) -> Tensor:
    x = t[op.inputs[0]].long()
    count = x.shape[2] * x.shape[3]
    total = x.sum((2, 3), keepdim=True) << (ir.MEAN_BITS + 1)
    return (total + count).div_(2 * count, rounding_mode='floor')


def _lookup(op: ir.Lookup, t: Tensors, c: Constants) -> Tensor:
    return c[op.output][0][t[op.inputs[0]].long() - op.first]


def _upsample(op: ir.Upsample, t: Tensors, _: Constants) -> Tensor:
    x, like = (t[name] for name in op.inputs)
    rows, columns = (
        torch.arange(like.shape[axis], device=x.device)
        * x.shape[axis]
        // like.shape[axis]
        for axis in (2, 3)
    )
    return x[:, :, rows[:, None], columns]


def _concatenate(op: ir.Concatenate, t: Tensors, _: Constants) -> Tensor:
    dtype = _DTYPES[op.grid.dtype.name]
    return torch.cat([t[name].to(dtype) for name in op.inputs], 1)


def _slice(op: ir.Slice, t: Tensors, _: Constants) -> Tensor:
    x = t[op.inputs[0]][:, op.first : op.first + op.channels]
    return x[:, :, op.offset[0] :: op.step[0], op.offset[1] :: op.step[1]]


EXECUTE: dict[type, Callable[..., Tensor]] = {
    ir.Image: _image,
    ir.Region: _region,
    ir.Convolution: _convolution,
    ir.Requantize: _requantize,
    ir.MaxPool: _max_pool,
    ir.Add: _add,
    ir.Multiply: _multiply,
    ir.Mean: _mean,
    ir.Lookup: _lookup,
    ir.Upsample: _upsample,
    ir.Concatenate: _concatenate,
    ir.Slice: _slice,
}
