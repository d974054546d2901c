"""The recipe of a float detector, found by looking at its layers."""

from collections.abc import Iterable, Mapping
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
    those of convolutions of one group, or of as many as channels, a step for
    each channel. Stems and depthwise convolutions keep weights of 8 bits.

    Args:
        detector: A float detector.
        stems: Its convolutions that read pixels.
        weight_bits: Of the other convolutions and linear layers.
        act_bits: Of their inputs.
    """
    named = dict(detector.named_modules())
    rules = _rules_of_layers(named, stems, weight_bits, act_bits)
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


def _rules_of_layers(
    named: Mapping[str, nn.Module],
    stems: Iterable[str],
    weight_bits: int,
    act_bits: int,
) -> list[dict[str, Any]]:
    """Return the rules of convolutions and linear layers."""
    common = dict(per_channel=True, normalize=False)
    options = dict(
        act_bits=act_bits,
        act_grid='asymmetric',
        act_per_channel=True,
        **common,
    )
    convs = {n: m for n, m in named.items() if CONV.applies(m)}
    depthwise = [n for n, m in convs.items() if is_depthwise(m)]
    # Linear layers, and groups of channels, have one step.
    others = [
        n
        for n, m in named.items()
        if LINEAR.applies(m)
        or (n in convs and m.groups not in (1, m.in_channels))
    ]
    one = dict(options, act_per_channel=False)
    image = dict(weight_bits=8, act_grid='image', **common)
    choices: list[tuple[Any, dict[str, Any]]] = [
        ('*', dict(weight_bits=weight_bits, **options)),
        (depthwise, dict(weight_bits=8, **options)),
        (others, dict(weight_bits=weight_bits, **one)),
        (list(stems), image),
    ]
    return [dict(modules=m, conv=conv) for m, conv in choices if m]


def is_depthwise(module: Any) -> bool:
    """Say whether a convolution's sums are over one channel each."""
    return module.groups == module.in_channels and module.groups > 1
