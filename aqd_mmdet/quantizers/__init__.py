from .fake_quantize import fake_quantize, quantize, round_half_up
from .grid import Grid, build_grid, check_bits
from .quantizer import (
    ImageQuantizer,
    Quantizer,
    Rounding,
    TensorQuantizer,
    WeightQuantizer,
)
from .start import mse_clip, start_clip

__all__ = [
    'Grid',
    'ImageQuantizer',
    'Quantizer',
    'Rounding',
    'TensorQuantizer',
    'WeightQuantizer',
    'build_grid',
    'check_bits',
    'fake_quantize',
    'mse_clip',
    'quantize',
    'round_half_up',
    'start_clip',
]
