"""Averages: of whole maps, and of windows."""

import numpy as np

from ...layers.pool import QuantAvgPool, QuantMean
from ...program import ops as ir
from ..builder import Builder
from ..graph import LayerCall
from ..values import Affine, pair
from .rules import lowers


@lowers(QuantMean)
def lower_mean(builder: Builder, call: LayerCall, layer: QuantMean) -> Affine:
    (x,) = call.inputs
    codes, scale = builder.read(x, layer.input_quantizer, f'{call.name}.in')
    builder.codes[call.node] = (codes,)
    source = builder.op(codes)
    grid = source.grid.scaled(2**ir.MEAN_BITS)
    op = ir.Mean(call.name, (codes,), source.channels, grid)
    size = builder.size_of(call.node)
    step = scale.step / 2**ir.MEAN_BITS
    return Affine(builder.emit(op, size), size, step, np.zeros(1))


@lowers(QuantAvgPool)
def lower_avg_pool(
    builder: Builder, call: LayerCall, layer: QuantAvgPool
) -> Affine:
    """A convolution of ones, channel by channel."""
    (x,), name = call.inputs, call.name
    codes, scale = builder.read(x, layer.input_quantizer, f'{name}.in')
    builder.codes[call.node] = (codes,)
    channels = builder.op(codes).channels
    kernel = pair(layer.kernel_size)
    ones = np.ones((channels, 1, *kernel), np.int8)
    builder.weights[name] = ir.Weights.of(ones, 8)
    op = ir.Convolution(
        name,
        (codes,),
        channels,
        ir.INT32,
        kernel,
        pair(layer.stride),
        pair(layer.padding),
        (1, 1),
        name,
        channels,
    )
    size = builder.size_of(call.node)
    step = scale.step / (kernel[0] * kernel[1])
    return Affine(builder.emit(op, size), size, step, np.zeros(1))
