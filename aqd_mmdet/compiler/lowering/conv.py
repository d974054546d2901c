"""Convolutions and linear layers: sums of codes times weights."""

from dataclasses import dataclass

import numpy as np
import torch

from ...errors import UserError
from ...layers.weighted import QuantConv2d, QuantLinear
from ...program import ops as ir
from ..builder import Builder
from ..graph import LayerCall
from ..values import Affine, Movement, pair, real
from .rules import lowers


@dataclass(frozen=True)
class _Geometry:
    """Windows of a convolution; see :class:`aqd_mmdet.program.ops.Window`."""

    kernel: ir.Size
    stride: ir.Size = (1, 1)
    padding: ir.Size = (0, 0)
    dilation: ir.Size = (1, 1)
    groups: int = 1


@lowers(QuantConv2d)
def lower_conv(
    builder: Builder, call: LayerCall, layer: QuantConv2d
) -> Affine:
    geometry = _Geometry(
        pair(layer.kernel_size),
        pair(layer.stride),
        pair(layer.padding),
        pair(layer.dilation),
        layer.groups,
    )
    return _lower_weighted(builder, call, layer, geometry)


@lowers(QuantLinear)
def lower_linear(
    builder: Builder, call: LayerCall, layer: QuantLinear
) -> Affine:
    """A convolution with a window as large as the map."""
    (x,) = call.inputs
    value = builder.values[x]
    # Flatten refuses what is moved: its parts are maps of one pixel.
    if isinstance(value, Movement):
        numbers = builder.size_of(x).numbers
    else:
        numbers = value.size.numbers
    kernel = pair(numbers[:2])
    if numbers != kernel * (len(numbers) // 2):
        raise UserError(
            f'{call.name}: a linear layer reads a map whose size is that of '
            'the image: it can read regions, which have one size'
        )
    return _lower_weighted(builder, call, layer, _Geometry(kernel))


def _lower_weighted(
    builder: Builder,
    call: LayerCall,
    layer: QuantConv2d | QuantLinear,
    geometry: _Geometry,
) -> Affine:
    (x,), name = call.inputs, call.name
    codes, read = builder.read(x, layer.input_quantizer, f'{name}.in')
    builder.codes[call.node] = (codes,)
    if not torch.isfinite(layer.weight).all():
        raise UserError(f'{name}: a weight is not finite')
    ins = builder.op(codes).channels // geometry.groups
    shaped = layer.weight_codes().reshape(-1, ins, *geometry.kernel)
    weights = layer.weight_quantizer
    builder.weights[name] = ir.Weights.of(
        shaped.cpu().numpy().astype(np.int8), weights.grid.bits
    )
    op = ir.Convolution(
        name,
        (codes,),
        len(shaped),
        ir.INT32,
        geometry.kernel,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        name,
        geometry.groups,
        tuple(map(int, read.zero)),
    )
    offset = np.zeros(1) if layer.bias is None else real(layer.bias)
    size = builder.size_of(call.node)
    step = read.step
    if geometry.groups == 1:
        step = step.max(keepdims=True)  # the weights make up for the others
    elif len(step) > 1:
        step = np.repeat(step, len(shaped) // len(step))
    scale = step * real(weights.step)
    return Affine(builder.emit(op, size), size, scale, offset)
