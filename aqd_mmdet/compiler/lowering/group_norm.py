"""Group norms: normalised codes, and a formula for each channel."""

import numpy as np
import torch
from torch.fx import Node

from ...errors import UserError
from ...layers.group_norm import NORM_GRID, QuantGroupNorm
from ...program import ops as ir
from ..builder import Builder, program_grid, source_of
from ..graph import LayerCall
from ..values import Affine, Value, real
from .rules import lowers


@lowers(QuantGroupNorm)
def lower_group_norm(
    builder: Builder, call: LayerCall, layer: QuantGroupNorm
) -> Affine:
    (x,), name = call.inputs, call.name
    codes, read = builder.read(x, layer.input_quantizer, f'{name}.in')
    builder.codes[call.node] = (codes,)
    step = float(read.step[0])
    epsilon = layer.eps / step**2 * 2**ir.MOMENT_BITS
    if epsilon > ir.MAX_EPSILON:
        raise UserError(
            f'{name}: eps={layer.eps} is too large for a step of {step:.3g}: '
            f'expected at most {ir.MAX_EPSILON / 2**ir.MOMENT_BITS:.3g} steps '
            'squared; the clip value of its input is too small'
        )
    op = ir.GroupNorm(
        name,
        (codes,),
        builder.op(codes).channels,
        program_grid(NORM_GRID),
        layer.num_groups,
        max(1, round(epsilon)),
    )
    size = builder.size_of(call.node)
    gamma, beta = np.ones(1), np.zeros(1)
    if layer.affine:
        gamma, beta = real(layer.weight), real(layer.bias)
    scale = gamma / 2**ir.NORM_BITS
    return Affine(builder.emit(op, size), size, scale, beta)


@lowers(torch.ops.aten.group_norm.default)
def refuse_group_norm(builder: Builder, node: Node) -> Value:
    """Of a float layer; a quantised one is opaque."""
    raise UserError(
        f'{source_of(node)} stays float: quantise the group norm by a rule '
        "of the recipe, dict(modules='*', group_norm=dict())"
    )
