"""Activations that are no clamp, on an integer grid: SiLU, LeakyReLU, ..."""

from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn.bricks import HSigmoid, HSwish, Swish
from torch import Tensor, nn

from ..errors import UserError
from ..quantizers.fake_quantize import MIN_CLIP, step_size
from ..quantizers.grid import MAX_BITS, Grid, build_grid, check_bits
from ..quantizers.quantizer import Rounding, TensorQuantizer
from ..registry import MODELS
from .kinds import Operation, Replacement

# Functions of one number. A ReLU is a clamp, which costs nothing.
FUNCTIONS: tuple[type, ...] = (
    nn.SiLU,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Tanh,
    nn.ELU,
    nn.GELU,
    nn.Mish,
    Swish,
    HSwish,
    HSigmoid,
)

# Of a fixed-point activation. A table of 2^14 codes of 16 bits still fits the
# first-level cache of most machines.
FIXED_POINT_BITS = range(MAX_BITS + 1, 15)
OUTPUT_BITS = 16
OUTPUT_GRID = Grid(OUTPUT_BITS, -(2**15), 2**15 - 1)


@dataclass(frozen=True)
class ActivationOptions:
    """How an activation that is no clamp is quantised.

    Up to 8 bits by a QuantActivation, from 9 to 14 by a
    FixedPointActivation.
    """

    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in FIXED_POINT_BITS:
            check_bits(self.bits)


@MODELS.register_module()
class QuantActivation(TensorQuantizer):
    """Rounds its input to a signed grid, then applies a function.

    What it can give is then one value for each code, so that an integer
    program needs a table and nothing else.

    Args:
        function: The activation: a module, or a config that mmengine builds.
        bits: Width of the input's codes, 2 to 8.
    """

    def __init__(self, function: Any, bits: int = 8) -> None:
        super().__init__(build_grid('signed', check_bits(bits)))
        self.function: nn.Module = _function_of(function)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of the rounded ``x``, in its shape."""
        return self.function(super().forward(x))


@MODELS.register_module()
class FixedPointActivation(TensorQuantizer):
    """A function of a fixed-point number, whose result is one as well.

    A step is a power of two, and that of the result follows from it: channels
    of one step share a table, in all layers. Steps are set by calibration and
    not learned. Calibration after training gives each channel its own, that
    before training (CalibrationHook) gives one to all.

    Args:
        function: The activation: a module, or a config that mmengine builds.
            It grows no faster than its input, or stays below 1.
        bits: Width of the input's codes, 9 to 14; the output has 16.
    """

    def __init__(self, function: Any, bits: int = 12) -> None:
        if bits not in FIXED_POINT_BITS:
            raise UserError(
                f'bits={bits!r} of a FixedPointActivation: give an integer '
                f'from {FIXED_POINT_BITS[0]} to {FIXED_POINT_BITS[-1]}'
            )
        half = 2 ** (bits - 1)
        super().__init__(Grid(bits, -half, half - 1))
        self.clip.requires_grad_(False)
        self.function: nn.Module = _function_of(function)

    @torch.no_grad()
    def start(self, clip: Tensor, zero: Tensor | None = None) -> None:
        """Take the smallest ranges that hold some values.

        Args:
            clip: Magnitudes, of each channel (1, C, 1, 1), or of all ().
            zero: None: there is no zero point.
        """
        steps = clip.detach().abs().clamp_min(MIN_CLIP) / self.grid.hi
        exact = torch.exp2(steps.log2().ceil()) * self.grid.hi
        self.clip = nn.Parameter(exact, requires_grad=False)
        self.started.fill_(True)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        saved = state_dict.get(f'{prefix}clip')
        if saved is not None and saved.shape != self.clip.shape:
            # How many channels it has, only calibration can know.
            clip = self.clip.new_ones(saved.shape)
            self.clip = nn.Parameter(clip, requires_grad=False)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded function of the rounded ``x``, in its shape."""
        y = self.function(super().forward(x))
        clip = self.output_step() * OUTPUT_GRID.hi
        return self.rounded(y, Rounding(self, clip, OUTPUT_GRID))

    def output_step(self) -> Tensor:
        """Return the steps of the result, in the clip value's shape."""
        # Its range is that of the input, or 1.
        step = step_size(self.clip.detach(), self.grid)
        step = step * 2.0 ** (self.grid.bits - OUTPUT_BITS)
        return step.clamp_min(2.0 ** (1 - OUTPUT_BITS))


def _function_of(function: Any) -> nn.Module:
    if not isinstance(function, nn.Module):
        function = MODELS.build(function)
    if hasattr(function, 'inplace'):
        function.inplace = False  # the rounded input is kept for gradients
    return function


def _is_function(module: nn.Module) -> bool:
    return type(module) in FUNCTIONS


def _build(
    module: nn.Module, options: ActivationOptions, bits: int
) -> QuantActivation | FixedPointActivation:
    fixed = options.bits in FIXED_POINT_BITS
    layer = FixedPointActivation if fixed else QuantActivation
    return layer(module, options.bits)


ACTIVATION = Replacement('act', ActivationOptions, _is_function, _build)
# The gates of some attentions are calls, no modules.
SIGMOID = Operation(
    rule='act',
    options=ActivationOptions,
    child='acts',
    sign='sigmoid',
    functions=(torch.sigmoid, torch.sigmoid_),
    applies=lambda x: True,
    build=lambda options: _build(nn.Sigmoid(), options, options.bits),
)
