"""Activations that are no clamp, on an integer grid: SiLU, LeakyReLU, ..."""

from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn.bricks import HSigmoid, HSwish, Swish
from torch import Tensor, nn

from ..errors import UserError
from ..quantizers.arithmetic import MIN_CLIP
from ..quantizers.fake_quantize import round_half_up, step_size
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
# A table is of 64 straight lines, which vector registers hold. Exact values
# gave YOLOX-nano as many points of AP; 32 lines took half a point.
LINES_BITS = 6


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

    A table is 64 straight lines in place of the function, since engines
    compute these several times faster than they look up values.

    Args:
        function: The activation: a module, or a config that mmengine builds.
        bits: Width of the input's codes, 9 to 14; the output has 16.

    Attributes:
        gain: What the result is at most, in magnitudes of the input or, of
            inputs below 1, in ones; a power of two, 1 or more.
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
        self.gain = _gain_of(self.function)

    @torch.no_grad()
    def start(self, clip: Tensor, zero: Tensor | None = None) -> None:
        """Take the smallest ranges that hold some values.

        Args:
            clip: Magnitudes, of each channel (1, C, 1, 1), or of all ().
            zero: None: there is no zero point.
        """
        steps = clip.detach().abs().clamp_min(MIN_CLIP) / self.grid.hi
        if steps.ndim:
            self.set_shape(steps.shape)
        self.clip.copy_(torch.exp2(steps.log2().ceil()) * self.grid.hi)
        self.started.fill_(True)

    @torch.no_grad()
    def set_shape(self, shape: torch.Size) -> None:
        """Have one step for all channels, or one for each.

        Args:
            shape: Of the clip value: (), or (1, C, 1, 1).
        """
        if shape != self.clip.shape:
            self.clip.data = self.clip.new_ones(shape)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        saved = state_dict.get(f'{prefix}clip')
        if saved is not None:
            # How many channels it has, only calibration can know.
            self.set_shape(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded function of the rounded ``x``, in its shape."""
        # Codes have more bits than a number of 16 bits holds.
        exact = super().forward(
            x.to(torch.promote_types(x.dtype, torch.float32))
        )
        made = self.rounded(self.function(exact), _LookupRounding(self, exact))
        return made.to(x.dtype)

    def output_step(self) -> Tensor:
        """Return the steps of the result, in the clip value's shape."""
        return self.output_step_of(step_size(self.clip.detach(), self.grid))

    def output_step_of(self, step: Tensor) -> Tensor:
        """Return the steps of the result for steps of the input."""
        # Its range is that of the input, or 1, by the gain.
        step = step * 2.0 ** (self.grid.bits - OUTPUT_BITS)
        return step.clamp_min(2.0 ** (1 - OUTPUT_BITS)) * self.gain

    @torch.no_grad()
    def table(self, steps: Tensor) -> Tensor:
        """Return the codes of the result for each code of the input.

        Args:
            steps: Of the input, (N,).

        Returns:
            Tensor: int64 (N, codes of the grid). Each row is of 64 lines of
            equal length ``2^b``: ``first + ((slope * i + 2^b / 2) >> b)`` for
            the code ``i`` of a line, of the least squared error.
        """
        steps = steps.detach().double().cpu()[:, None]
        codes = torch.arange(self.grid.lo, self.grid.hi + 1)
        exact = self.function(codes * steps) / self.output_step_of(steps)
        lines = exact.unflatten(1, (2**LINES_BITS, -1))
        bits = self.grid.bits - LINES_BITS
        i = torch.arange(2**bits)
        distance = i - i.double().mean()
        slope = (lines * distance).sum(2, True) / distance.square().sum()
        slope = round_half_up(slope * 2**bits).long()
        rise = (slope * i + 2**bits // 2) >> bits
        first = round_half_up((lines - rise).mean(2, True)).long()
        # A code is not beyond the grid; a line may leave it where it ends.
        made = (first + rise).clamp(OUTPUT_GRID.lo, OUTPUT_GRID.hi)
        return made.flatten(1)

    def look_up(self, x: Tensor, step: Tensor) -> Tensor:
        """Return real values of the result for rounded values of the input.

        Args:
            x: Multiples of the steps on the grid.
            step: Steps, broadcastable to it.
        """
        steps, rows = step.detach().unique(return_inverse=True)
        table = self.table(steps).to(x.device)
        codes = torch.round(x.detach() / step).long() - self.grid.lo
        made = table.flatten()[rows.view_as(step) * table.shape[1] + codes]
        return made.to(x.dtype) * self.output_step_of(step).to(x.dtype)


class _LookupRounding(Rounding):
    """Replaces a function's values by those of the table.

    Args:
        layer: The activation.
        x: Its rounded input.
    """

    def __init__(self, layer: FixedPointActivation, x: Tensor) -> None:
        clip = layer.output_step() * OUTPUT_GRID.hi
        super().__init__(layer, clip, OUTPUT_GRID)
        self.layer = layer
        self.x = x

    def __call__(self, y: Tensor) -> Tensor:
        self.layer.need_start()
        made = self.layer.look_up(self.x, self.layer.step)
        return made + (y - y.detach())  # the gradient of the function

    @torch.no_grad()
    def codes(self, y: Tensor) -> Tensor:
        return super().codes(self(y))


def _function_of(function: Any) -> nn.Module:
    if not isinstance(function, nn.Module):
        function = MODELS.build(function)
    if hasattr(function, 'inplace'):
        function.inplace = False  # the rounded input is kept for gradients
    return function


@torch.no_grad()
def _gain_of(function: nn.Module) -> float:
    """Return the smallest power of two, 1 or more, that a function's values
    are within, in magnitudes of its input or in ones.

    Raises:
        UserError: If there is none that leaves the result any bits, or the
            function has parameters.
    """
    if next(function.parameters(), None) is not None:
        raise UserError(
            f'{function}: it has parameters; a table is of a function that '
            'training does not change'
        )
    ends = torch.exp2(torch.linspace(-20, 20, 641, dtype=torch.float64))
    x = torch.cat([-ends, ends])
    made = function(x).abs() / x.abs().clamp_min(1)
    gain = float(torch.exp2((made.amax() * (1 - 1e-6)).log2().ceil()))
    if not gain <= 2 ** (OUTPUT_BITS - MAX_BITS):
        raise UserError(
            f'{function}: its values are up to {float(made.amax()):.3g} times '
            f'its input: expected at most {2 ** (OUTPUT_BITS - MAX_BITS)} '
            'times; give it bits of 8 or less'
        )
    return max(gain, 1.0)


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
