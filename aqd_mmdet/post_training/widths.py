"""Widths of weights, layer by layer, of little noise within a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from ..errors import UserError
from ..layers.weighted import CONV, LINEAR, ConvOptions
from ..models.recipe import choose, read_recipe


@dataclass(frozen=True)
class Option:
    """A width of a layer.

    Attributes:
        bits: The width.
        noise: Of the detector's outputs, if the layer has that width.
        cost: What it takes of the budget.
    """

    bits: int
    noise: float
    cost: float


def total_cost(chosen: Mapping[str, Option]) -> float:
    """Return what the widths of all layers cost together."""
    return sum(option.cost for option in chosen.values())


def choose_widths(
    options: Mapping[str, Sequence[Option]], limit: float
) -> dict[str, Option]:
    """Return for each layer an option, for little noise within a limit.

    Noises of layers add up. From the options of the least noise on, the step
    is taken again and again that adds the least noise for what it saves.
    These are the optima of noise + factor x cost for a factor that rises
    (Shoham and Gersho, "Efficient Bit Allocation for an Arbitrary Set of
    Quantizers", 1988): no other choice of the cost that is reached has less
    noise.

    Args:
        options: Of each layer, at least one.
        limit: Of the total cost.

    Raises:
        UserError: If the cheapest options cost more.
    """
    chosen = {
        name: min(each, key=lambda o: (o.noise, o.cost))
        for name, each in options.items()
    }
    while total_cost(chosen) > limit:
        steps = [
            ((o.noise - chosen[name].noise) / (chosen[name].cost - o.cost),
             o.cost - chosen[name].cost, name, o)
            for name, each in options.items()
            for o in each
            if o.cost < chosen[name].cost
        ]  # fmt: skip
        if not steps:
            raise UserError('the cheapest options cost more than the limit')
        *_, name, option = min(steps, key=lambda step: step[:3])
        chosen[name] = option
    return chosen


def options_of_layers(
    detector: nn.Module, recipe: Sequence[dict[str, Any]]
) -> dict[str, ConvOptions]:
    """Return how a recipe quantises the layers of a float detector that have
    weights, by name.

    Args:
        detector: The float detector.
        recipe: The rules.
    """
    named = {
        name: module
        for name, module in detector.named_modules()
        if CONV.applies(module) or LINEAR.applies(module)
    }
    chosen = choose(read_recipe(recipe), CONV.rule, named)
    return {n: o for n, o in chosen.items() if isinstance(o, ConvOptions)}


def with_widths(
    recipe: Sequence[dict[str, Any]],
    layers: Mapping[str, ConvOptions],
    widths: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Return a recipe that names a width for the weights of each layer.

    Args:
        recipe: The rules that say all but the widths.
        layers: Of :func:`options_of_layers`.
        widths: By their names.
    """
    groups: dict[ConvOptions, list[str]] = {}
    for name, options in layers.items():
        chosen = replace(options, weight_bits=widths[name])
        groups.setdefault(chosen, []).append(name)
    return [rule for rule in recipe if CONV.rule not in rule] + [
        {'modules': names, CONV.rule: asdict(options)}
        for options, names in groups.items()
    ]
