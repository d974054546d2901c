"""Builds mmdet's own detector and exchanges its layers by a recipe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..compiler.trace import need_compilable
from ..errors import UserError
from ..layers import KINDS
from ..layers.batch_norm import guard_batch_norms
from ..layers.kinds import Replacement
from ..layers.multi_level_norm import (
    MultiLevelBN,
    NormOptions,
    hand_on_level,
    track_levels,
)
from ..layers.weighted import CONV, LINEAR, QuantizedLayer, share_weights
from ..options import Options
from ..program.fixed_point import FixedPoint
from ..quantizers.grid import check_bits
from ..registry import MODELS
from .aliases import need_no_aliases
from .bypass import find_bypassed
from .operations import (
    OPERATIONS,
    Sites,
    find_operations,
    replace_operations,
    run_once,
)
from .recipe import (
    FLOAT,
    OPTIONS,
    Rule,
    check_floats,
    choose,
    read_recipe,
)

Norm = (_NormBase, nn.GroupNorm, MultiLevelBN)


@MODELS.register_module()
def QuantizedDetector(
    detector: str,
    recipe: Sequence[dict] = (),
    bits: int | str = FLOAT,
    integer: dict | None = None,
    **cfg: Any,
) -> nn.Module:
    """Build a detector of mmdet with quantised layers.

    It is a function in the registry: what comes back *is* the detector that
    ``detector`` names, with its state-dict names, so that hooks, inferencers
    and checkpoints of mmdet need nothing new.

    Args:
        detector: The ``type`` that the config had before.
        recipe: Rules; see :mod:`aqd_mmdet.models.recipe`.
        bits: Width of weights and activations where a rule names none, or
            ``'float'``: then rules of norms are followed and nothing is
            quantised, which makes the float detector to start from.
        integer: Options of the integer program: fields of
            :class:`aqd_mmdet.program.fixed_point.FixedPoint`, which the
            compiler and the integer-aware mode both read.
        **cfg: The detector's own config.

    Raises:
        UserError: If the recipe or the bits are not possible.
    """
    model = MMDET_MODELS.build(dict(type=detector, **cfg))
    quantize_detector(model, recipe, bits)
    model.fixed_point = read_integer(integer)
    return model


def read_integer(integer: Any) -> FixedPoint:
    """Return how a program stands for real numbers, by a config.

    Args:
        integer: A dict of a config, or None for the defaults.

    Raises:
        UserError: If it has an unknown option or an impossible value.
    """
    options = Options('model.integer', {} if integer is None else integer)
    values = {
        f.name: options.take(f.name, f.default) for f in fields(FixedPoint)
    }
    options.finish()
    return FixedPoint(**values)


def quantize_detector(
    model: nn.Module, recipe: Sequence[dict], bits: int | str
) -> None:
    """Exchange the layers of a built detector in place.

    Args:
        model: The detector.
        recipe, bits: As of :func:`QuantizedDetector`.
    """
    rules = read_recipe(recipe)
    if bits != FLOAT:
        check_bits(bits)
    named = dict(model.named_modules())
    weighted = {
        name: module
        for name, module in named.items()
        if any(kind.applies(module) for kind in (CONV, LINEAR))
    }
    with (
        find_bypassed(weighted) as bypassed,
        find_operations(model) as sites,
    ):
        levels = _count_levels(model)
    # All rules are checked before the first layer is exchanged, also those
    # that a float detector does not follow: one recipe serves all widths.
    chosen = _choose(rules, named, sites)
    for name in sorted(bypassed & chosen[CONV.rule].keys()):
        need_compilable(model)  # which has a better reason
        raise UserError(
            f'{name} is never called: its owner computes with its weights '
            'by itself, so that nothing would be quantised there; leave '
            f"it alone by a last rule, dict(modules='{name}', float=True)"
        )
    if isinstance(bits, int):
        need_no_aliases(model, _with_signs(named, chosen, sites))
        _need_no_hooks(named, chosen)
        _replace_modules(model, named, chosen, bits)
        _replace_operations(named, chosen, sites)
    # After quantisation: a norm that was quantised has levels as well.
    for name, options in chosen['norm'].items():
        norm = model.get_submodule(name)
        counted = levels.get(name.split('.')[0])
        _replace(model, norm, _levelled(norm, options, counted))
    guard_batch_norms(model)
    _follow_levels(model, levels)


def _follow_levels(model: nn.Module, levels: Mapping[str, int]) -> None:
    """Let heads know the levels of their maps, and round weights once."""
    heads = [
        child
        for child in model.children()
        if any(isinstance(m, MultiLevelBN) for m in child.modules())
    ]
    if heads:
        track_levels(getattr(model, 'neck', None), heads)
    for name, child in model.named_children():
        if levels.get(name, 0) > 1:
            share_weights(child)


# By the key of rules, the options of each module that they choose for.
Chosen = dict[str, dict[str, Any]]


def _choose(
    rules: Sequence[Rule],
    named: dict[str, nn.Module],
    sites: Mapping[nn.Module, Sites],
) -> Chosen:
    """Return what a recipe chooses for all modules of a detector.

    Raises:
        UserError: If a rule matches nothing.
    """
    by_kind = candidates(named, sites)
    check_floats(rules, {n: m for k in by_kind.values() for n, m in k.items()})
    return {
        rule: choose(rules, rule, modules) for rule, modules in by_kind.items()
    }


def candidates(
    named: Mapping[str, nn.Module], sites: Mapping[nn.Module, Sites]
) -> dict[str, dict[str, nn.Module]]:
    """Return what each kind of rule can choose for, by names.

    Args:
        named: All modules of a detector.
        sites: Of :func:`aqd_mmdet.models.operations.find_operations`.
    """
    result: dict[str, dict[str, nn.Module]] = {k: {} for k in OPTIONS}
    for name, module in named.items():
        if isinstance(module, Norm):
            result['norm'][name] = module
        signs = [OPERATIONS[child].rule for child in sites.get(module, ())]
        for rule in _rules_of_whole(module) or signs:
            result[rule][name] = module
    return result


def _rules_of_whole(module: nn.Module) -> list[str]:
    """Return the keys of rules by which a layer stands for a whole module.

    Its signs are no operations then: Swish is a product of maps by its
    source, and one function.
    """
    return [
        kind.rule
        for kind in KINDS
        if isinstance(kind, Replacement) and kind.applies(module)
    ]


def _replace_modules(
    model: nn.Module, named: dict[str, nn.Module], chosen: Chosen, bits: int
) -> None:
    """Put layers into the places of modules."""
    for rule, options in chosen.items():
        kinds = [
            kind
            for kind in KINDS
            if isinstance(kind, Replacement) and kind.rule == rule
        ]
        for name, choice in options.items():
            module = named[name]
            for kind in kinds:
                if kind.applies(module):
                    _replace(model, module, kind.build(module, choice, bits))
                    break


def _need_no_hooks(named: dict[str, nn.Module], chosen: Chosen) -> None:
    """Raise if more is done when a module is called that is exchanged.

    Raises:
        UserError: If it has hooks, or methods that its class has not.
    """
    rules = {kind.rule for kind in KINDS if isinstance(kind, Replacement)}
    for name in (name for rule in rules for name in chosen[rule]):
        module = named[name]
        hooks = {
            *module._forward_hooks.values(),
            *module._forward_pre_hooks.values(),
        }
        if hooks - {hand_on_level}:  # which its layer gets as well
            raise UserError(
                f'{name}: it has hooks, as spectral_norm makes, which its '
                'quantised layer would not have; leave it alone by a last '
                f"rule, dict(modules='{name}', float=True)"
            )
        own = [
            n for n in vars(module) if callable(getattr(type(module), n, None))
        ]
        if own:
            raise UserError(
                f'{name}: it has a {own[0]} of its own in place of '
                f'{type(module).__name__}.{own[0]}, which its quantised layer '
                'would not have; make a class that has it, or leave it alone '
                f"by a last rule, dict(modules='{name}', float=True)"
            )


def _with_signs(
    named: dict[str, nn.Module],
    chosen: Chosen,
    sites: Mapping[nn.Module, Sites],
) -> dict[str, nn.Module]:
    """Return the modules whose signs get layers, by name."""
    return {
        name: module
        for name, module in named.items()
        if any(
            name in chosen[OPERATIONS[c].rule] for c in sites.get(module, ())
        )
    }


def _replace_operations(
    named: dict[str, nn.Module],
    chosen: Chosen,
    sites: dict[nn.Module, Sites],
) -> None:
    """Put layers into the places of signs."""
    for name, module in named.items():
        if _rules_of_whole(module):
            continue
        make: dict[str, Callable[[], nn.Module]] = {}
        for child, kind in OPERATIONS.items():
            if child in sites.get(module, ()) and name in chosen[kind.rule]:
                make[child] = partial(kind.build, chosen[kind.rule][name])
        if make:
            replace_operations(module, sites[module], make)


def _count_levels(model: nn.Module) -> dict[str, int]:
    """Run the model once and count the feature maps that heads are given."""
    levels: dict[str, int] = {}
    handles = []
    for name, child in model.named_children():

        def count(module: nn.Module, args: tuple, name: str = name) -> None:
            if args and isinstance(args[0], (tuple, list)):
                levels[name] = sum(isinstance(x, Tensor) for x in args[0])

        handles.append(child.register_forward_pre_hook(count))
    try:
        run_once(model)
    except Exception as error:  # of the detector's, of any kind
        need_compilable(model)  # which has a better reason
        raise UserError(
            f'{type(model).__name__} cannot be run as backbone, neck and '
            f'dense head, and is not supported ({type(error).__name__}: '
            f'{error})'
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return levels


def _levelled(
    norm: nn.Module, choice: NormOptions, counted: int | None
) -> nn.Module:
    if isinstance(norm, MultiLevelBN):
        return norm
    num_levels = counted if choice.num_levels is None else choice.num_levels
    if num_levels is None:
        raise UserError(
            'how many levels MultiLevelBN shall have cannot be '
            'counted here: give num_levels'
        )
    return MultiLevelBN.from_norm(norm, num_levels)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    # Under all its names: RTMDet's levels share convolutions as modules.
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLayer]:
    """Return a detector's quantised convolutions and linear layers by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLayer)
    }


def detector_of(model: nn.Module) -> nn.Module:
    """Return the detector inside of what a runner trains or tests.

    Args:
        model: The detector, or a wrapper of it: distributed training's, or
            that of test-time augmentation.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        inner: Any = model.module
        model = inner
    return model
