"""The reference executor: the contract in numpy, integers only.

It is for truth, not for speed. What an operator computes is in its class.
"""

from collections.abc import Callable

import numpy as np

from ..program import ops as ir


def run(
    program: ir.Program,
    image: np.ndarray,
    see: Callable[[ir.Op, np.ndarray], None] | None = None,
) -> dict[str, np.ndarray]:
    """Run a program on a batch.

    Args:
        program: The program.
        image: Pixels, uint8 (N, C, H, W), channels in the network's order.
        see: Called with each operator and its output.

    Returns:
        dict: The outputs by name, int32 (N, C, H, W).

    Raises:
        UserError: If the program or an operator does not take inputs of their
            sizes.
    """
    height, width = image.shape[2:]
    program.sizes((height, width))
    last = program.last_uses()
    tensors: dict[str, np.ndarray] = {'image': image}
    for position, op in enumerate(program.ops):
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.output] = run_op(op, inputs, program)
        if see is not None:
            see(op, tensors[op.output])
        for name in {*op.inputs, op.output}:
            if last.get(name, -1) <= position:
                del tensors[name]
    return {name: tensors[name] for name in program.output_names()}


def run_op(
    op: ir.Op, inputs: list[np.ndarray], program: ir.Program
) -> np.ndarray:
    """Run one operator.

    Args:
        op: The operator.
        inputs: Codes, (N, C, H, W).
        program: Whose weights it reads.

    Returns:
        np.ndarray: Codes of its grid's type, (N, C, H, W).
    """
    if op.arithmetic is not None:
        inputs = [x.astype(op.arithmetic) for x in inputs]
    values = op.run(inputs, op.constants(program.weights))
    assert np.issubdtype(values.dtype, np.integer), op
    return values.astype(op.grid.dtype)
