"""A program in PyTorch: for evaluation and training, not for shipping.

Equal to the reference to the last bit, and faster. Most operators run on
tensors by the same code as on arrays. Here are the others: PyTorch has a
faster function for them, or gives another name to what numpy does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
    'int64': torch.int64,
}
# Called with each operator and its output; what it returns, if anything,
# stands in the output's place from there on.
See = Callable[[ir.Op, Tensor], Tensor | None]


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
        self.device = device
        self.last = program.last_uses()
        self.constants: dict[str, tuple[Tensor, ...]] = {}
        # Levels share weights; they are kept in the type that adds them.
        weights: dict[tuple[str, torch.dtype], Tensor] = {}
        grids = {op.output: op.grid for op in program.ops}
        for op in program.ops:
            if isinstance(op, ir.Convolution):
                dtype = self._exact_type(op, grids[op.inputs[0]])
                key = (op.weights, dtype)
                if key not in weights:
                    weights[key] = self._tensors(op)[0].to(dtype)
                zero = torch.tensor(op.zero, dtype=dtype, device=device)
                zero = zero[:, None, None]
                self.constants[op.output] = weights[key], zero
            else:
                self.constants[op.output] = self._tensors(op)

    def _tensors(self, op: ir.Op) -> tuple[Tensor, ...]:
        return tuple(
            torch.from_numpy(x).to(self.device)
            for x in op.constants(self.program.weights)
        )

    def _exact_type(self, op: ir.Convolution, grid: ir.Grid) -> torch.dtype:
        """Return the float in which every partial sum is an integer."""
        total = self.program.weights[op.weights].magnitudes.max()
        largest = grid.magnitude + max(map(abs, op.zero))
        exact = total * largest < FLOAT32_EXACT
        return torch.float32 if exact else torch.float64

    @torch.no_grad()
    def run(self, image: Tensor, see: See | None = None) -> dict[str, Tensor]:
        """Run the program; result as of the reference's.

        Args:
            image: Pixels, uint8 (N, C, H, W).
            see: Shown each operator and its output.

        Raises:
            UserError: If the program or an operator does not take inputs of
                their sizes.
        """
        height, width = image.shape[2:]
        self.program.sizes((height, width))
        tensors = {'image': image}
        # Under autocast a convolution of float32 would run in 16 bits.
        with torch.autocast(image.device.type, enabled=False), _exact_sums():
            for position, op in enumerate(self.program.ops):
                values = self.run_op(op, [tensors[n] for n in op.inputs])
                other = None if see is None else see(op, values)
                tensors[op.output] = values if other is None else other
                for name in {*op.inputs, op.output}:
                    if self.last.get(name, -1) <= position:
                        del tensors[name]
        return {name: tensors[name] for name in self.program.output_names()}

    def run_op(self, op: ir.Op, inputs: Sequence[Tensor]) -> Tensor:
        """Run one operator of the program on codes (N, C, H, W)."""
        constants = self.constants[op.output]
        run = _FASTER.get(type(op))
        if run is not None:
            values = run(op, inputs, constants)
        elif op.arithmetic is None:
            values = op.run(inputs, constants)
        else:
            wide = _DTYPES[op.arithmetic]
            values = op.run([x.to(wide) for x in inputs], constants)
        return values.to(_DTYPES[op.grid.dtype.name])


@contextmanager
def _exact_sums() -> Iterator[None]:
    """Let a GPU compute convolutions as products of matrices, of whole floats.

    cuDNN may take Winograd's algorithm, whose floats are no integers. Products
    of lower precision, as with TF32, lose bits of codes of 16 bits.
    """
    cudnn, was_enabled = torch.backends.cudnn, torch.backends.cudnn.enabled
    precision = torch.get_float32_matmul_precision()
    cudnn.enabled = False
    torch.set_float32_matmul_precision('highest')
    try:
        yield
    finally:
        cudnn.enabled = was_enabled
        torch.set_float32_matmul_precision(precision)


def _convolution(
    op: ir.Convolution, inputs: Sequence[Tensor], constants: Sequence[Tensor]
) -> Tensor:
    weights, zero = constants
    return F.conv2d(
        inputs[0].to(weights.dtype) - zero,
        weights,
        None,
        op.stride,
        op.padding,
        op.dilation,
        op.groups,
    )


def _max_pool(
    op: ir.MaxPool, inputs: Sequence[Tensor], constants: Sequence[Tensor]
) -> Tensor:
    exact = op.grid.magnitude < FLOAT32_EXACT
    x = inputs[0].to(torch.float32 if exact else torch.float64)
    # PyTorch's own border is infinite, and no window may be all border there.
    rows, columns = op.padding
    x = F.pad(x, (columns, columns, rows, rows), value=op.grid.lo)
    return F.max_pool2d(x, op.kernel, op.stride, 0, op.dilation)


def _concatenate(
    op: ir.Concatenate, inputs: Sequence[Tensor], constants: Sequence[Tensor]
) -> Tensor:
    dtype = _DTYPES[op.grid.dtype.name]
    return torch.cat([x.to(dtype) for x in inputs], 1)


_FASTER: dict[type, Callable[..., Tensor]] = {
    ir.Convolution: _convolution,
    ir.MaxPool: _max_pool,
    ir.Concatenate: _concatenate,
}
