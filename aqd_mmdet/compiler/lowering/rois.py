"""Maps that leave the program, rounded, for regions to be read from."""

import numpy as np

from ...quantizers.quantizer import TensorQuantizer
from ..builder import Builder
from ..graph import LayerCall
from ..values import Affine
from .rules import lowers


@lowers(TensorQuantizer)
def lower_quantizer(
    builder: Builder, call: LayerCall, layer: TensorQuantizer
) -> Affine:
    """A quantiser outside of any other layer, as QuantRoIExtractor has it."""
    (x,) = call.inputs
    name = call.name.removesuffix('.input_quantizer')
    codes, scale = builder.read(x, layer, f'{name}.in')
    builder.codes[call.node] = (codes,)
    return Affine(codes, builder.size_of(call.node), scale.step, np.zeros(1))
