"""The recipe of a float detector, found by looking at its layers."""

from typing import Any

from torch import nn

from ..layers.weighted import CONV, LINEAR
from ..models.operations import find_operations, run_once
from ..models.quantized_detector import candidates

# Sums and the inputs of group norms have 16 bits: their readers round again.
WIDE_BITS = 16
# Of what an activation that is no clamp reads: tables of 8 KiB, one for each
# octave of ranges.
ACTIVATION_BITS = 12
# What each further kind of layer gets, by its key in a recipe.
OTHERS: dict[str, dict[str, Any]] = {
    'add': dict(bits=WIDE_BITS, signed=True),
    'mul': dict(bits=8, grid='signed'),
    'act': dict(bits=ACTIVATION_BITS),
    'pool': dict(bits=8, grid='signed'),
    'group_norm': dict(bits=WIDE_BITS, grid='signed'),
}


def find_recipe(
    detector: nn.Module,
    stems: dict[str, nn.Conv2d],
    weight_bits: int,
    act_bits: int,
) -> list[dict[str, Any]]:
    """Return the rules that quantise a float detector as it is.

    Weights have a step for each output channel, inputs a zero point, and
    those of depthwise convolutions a step for each channel. Stems, depthwise
    convolutions and the last ones of heads keep weights of 8 bits.

    Args:
        detector: A float detector.
        stems: Its convolutions that read pixels.
        weight_bits: Of the other convolutions and linear layers.
        act_bits: Of their inputs.
    """
    named = dict(detector.named_modules())
    common = dict(per_channel=True, normalize=False)
    options = dict(
        act_bits=act_bits,
        act_grid='asymmetric',
        act_per_channel=True,
        **common,
    )
    rules: list[dict[str, Any]] = [
        dict(modules='*', conv=dict(weight_bits=weight_bits, **options))
    ]
    convs = {n: m for n, m in named.items() if CONV.applies(m)}
    depthwise = [n for n, m in convs.items() if is_depthwise(m)]
    if depthwise:
        rules.append(
            dict(modules=depthwise, conv=dict(weight_bits=8, **options))
        )
    # Linear layers, and groups of channels, have one step.
    others = [
        n
        for n, m in named.items()
        if LINEAR.applies(m)
        or (n in convs and m.groups not in (1, m.in_channels))
    ]
    if others:
        one = dict(options, act_per_channel=False)
        rules.append(
            dict(modules=others, conv=dict(weight_bits=weight_bits, **one))
        )
    rules.append(
        dict(
            modules=list(stems),
            conv=dict(weight_bits=8, act_grid='image', **common),
        )
    )
    with find_operations(detector) as sites:
        run_once(detector)
    chosen = candidates(named, sites)
    rules += [
        {'modules': '*', rule: options}
        for rule, options in OTHERS.items()
        if chosen[rule]
    ]
    if any(name.startswith('roi_head.mask_') for name in named):
        rules.append(dict(modules='roi_head.mask_*', float=True))
    return rules


def is_depthwise(module: Any) -> bool:
    """Say whether a convolution's sums are over one channel each."""
    return module.groups == module.in_channels and module.groups > 1
