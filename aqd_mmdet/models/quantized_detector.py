"""Builds mmdet's own detector and exchanges its layers by a recipe."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import UserError
from ..layers.activation import FUNCTIONS, QuantActivation
from ..layers.add import QuantAdd
from ..layers.batch_norm import guard_batch_norms
from ..layers.multi_level_norm import MultiLevelBN, track_levels
from ..layers.multiply import QuantMultiply
from ..layers.pool import QuantAvgPool, QuantMean
from ..layers.regions import QuantRoIExtractor
from ..layers.weighted import QuantConv2d, QuantizedLayer, QuantLinear
from ..options import Options
from ..program.fixed_point import FixedPoint
from ..quantizers.grid import check_bits
from ..registry import MODELS
from .bypass import find_bypassed
from .operations import find_operations, replace_operations, run_once
from .recipe import (
    FLOAT,
    ActChoice,
    AddChoice,
    ConvChoice,
    MulChoice,
    NormChoice,
    PoolChoice,
    choose,
    read_recipe,
)

# One pass over a blank image finds the operations and counts the levels; 128
# is the coarsest stride of mmdet's pyramids, so that no level is empty.
PROBE_SIZE = 128

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
    with (
        find_bypassed(model, tuple(_FLOAT_LAYERS)) as bypassed,
        find_operations(model) as sites,
    ):
        levels = _count_levels(model)
    named = dict(model.named_modules())
    weighted = {
        name: module
        for name, module in named.items()
        if type(module) in _FLOAT_LAYERS
    }
    adding = {n: m for n, m in named.items() if 'adds' in sites.get(m, ())}
    multiplying = {
        n: m for n, m in named.items() if 'muls' in sites.get(m, ())
    }
    norms = {n: m for n, m in named.items() if isinstance(m, Norm)}
    functions = {n: m for n, m in named.items() if type(m) in FUNCTIONS}
    pools = {n: m for n, m in named.items() if _is_average(m)}
    # All rules are checked before the first layer is exchanged, also those
    # that a float detector does not follow: one recipe serves all widths.
    convs = choose(rules, 'conv', weighted)
    for name in sorted(bypassed):
        if isinstance(convs.get(name), ConvChoice):
            raise UserError(
                f'{name} is never called: its owner computes with its weights '
                'by itself, so that nothing would be quantised there; leave '
                f"it alone by a last rule, dict(modules='{name}', float=True)"
            )
    adds = choose(rules, 'add', adding)
    muls = choose(rules, 'mul', multiplying)
    acts = choose(rules, 'act', functions)
    averages = choose(rules, 'pool', pools)
    replacements = choose(rules, 'norm', norms)
    for name, choice in replacements.items():
        if isinstance(choice, NormChoice):
            head = name.split('.')[0]
            norm = norms[name]
            _replace(model, norm, _levelled(norm, choice, levels.get(head)))
    if bits != FLOAT:
        for name, choice in convs.items():
            if isinstance(choice, ConvChoice):
                conv = weighted[name]
                _replace(model, conv, _quantized(conv, choice, bits))
        for name, choice in acts.items():
            if isinstance(choice, ActChoice):
                act = functions[name]
                _replace(model, act, QuantActivation(act, choice.bits))
        for name, choice in averages.items():
            if isinstance(choice, PoolChoice):
                pool = pools[name]
                _replace(model, pool, _average(pool, choice))
        for name, module in named.items():
            make: dict[str, Callable[[], nn.Module]] = {}
            add, mul = adds.get(name), muls.get(name)
            if isinstance(add, AddChoice):
                make['adds'] = partial(QuantAdd, add.bits, add.signed)
            if isinstance(mul, MulChoice):
                make['muls'] = partial(QuantMultiply, mul.bits, mul.grid)
            if make:
                replace_operations(module, sites[module], make)
    guard_batch_norms(model)
    heads = [
        child
        for child in model.children()
        if any(isinstance(m, MultiLevelBN) for m in child.modules())
    ]
    if heads:
        track_levels(getattr(model, 'neck', None), heads)


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
        run_once(model, PROBE_SIZE)
    except Exception as error:  # of the detector's, of any kind
        raise UserError(
            f'{type(model).__name__} cannot be run as backbone, neck and '
            f'dense head, and is not supported ({type(error).__name__}: '
            f'{error})'
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return levels


def _from_conv(layer: nn.Module, **options: Any) -> QuantizedLayer:
    assert isinstance(layer, nn.Conv2d)
    return QuantConv2d.from_float(layer, **options)


def _from_linear(layer: nn.Module, **options: Any) -> QuantizedLayer:
    assert isinstance(layer, nn.Linear)
    return QuantLinear.from_float(layer, **options)


# Exact types only: a subclass may compute something else.
_FLOAT_LAYERS: dict[type, Callable[..., QuantizedLayer]] = {
    nn.Conv2d: _from_conv,
    nn.Linear: _from_linear,
}


def _quantized(
    layer: nn.Module, choice: ConvChoice, bits: int | str
) -> QuantizedLayer:
    return _FLOAT_LAYERS[type(layer)](
        layer,
        weight_bits=choice.weight_bits or bits,
        act_bits=choice.act_bits or bits,
        act_grid=choice.act_grid,
        normalize=choice.normalize,
        per_channel=choice.per_channel,
    )


def _is_average(module: nn.Module) -> bool:
    whole = isinstance(module, nn.AdaptiveAvgPool2d) and (
        module.output_size in (1, (1, 1))
    )
    return whole or type(module) in (nn.AvgPool2d, SingleRoIExtractor)


def _average(module: nn.Module, choice: PoolChoice) -> nn.Module:
    if isinstance(module, nn.AvgPool2d):
        return QuantAvgPool.from_float(module, choice.bits, choice.grid)
    if isinstance(module, SingleRoIExtractor):
        return QuantRoIExtractor(module, choice.bits, choice.grid)
    return QuantMean(choice.bits, choice.grid)


def _levelled(
    norm: nn.Module, choice: NormChoice, counted: int | None
) -> nn.Module:
    if isinstance(norm, MultiLevelBN):
        return norm
    num_levels = choice.num_levels or counted
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
