"""What the training of a quantised detector needs of its runner."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import Runner
from torch import nn

from ..config import type_name
from ..layers import FixedPointActivation
from ..models import PretrainedRawImage
from ..models.quantized_detector import detector_of, quantized_layers
from .calibration import CalibrationHook
from .checkpoint import read_checkpoint, state_dict_of
from .integer_aware import IntegerAwareHook

# Powers of the deviation by which a stem's rate and weight decay change, for
# the same steps relative to its size. AdamW's decay is times the rate, the
# others' is part of the gradient.
STEM_POWERS = {'SGD': (-2, 2), 'Adam': (-1, 2), 'AdamW': (-1, 1)}
# mmengine's name of what it builds where a config names nothing else.
DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'


def add_missing_hooks(runner: Runner) -> None:
    """Add the hooks that a quantised detector cannot do without.

    They stand in the configs' ``default_hooks``, which inherit key by key; a
    config that replaces the whole dict loses them.

    Args:
        runner: Changed in place.
    """
    if not quantized_layers(detector_of(runner.model)):
        return
    for hook in (CalibrationHook, IntegerAwareHook):
        if not any(isinstance(h, hook) for h in runner.hooks):
            runner.logger.warning(
                f'the config has no {hook.__name__}, without which a '
                'quantised detector is not trained and validated as it '
                'ships: it is added'
            )
            runner.register_hook(hook())


def take_shapes(runner: Runner, checkpoint: str) -> None:
    """Give fixed-point activations as many steps as a checkpoint has.

    A hook that copies the model before the checkpoint is loaded, as EMAHook
    does, then averages values of these shapes.

    Args:
        runner: Its model is changed.
        checkpoint: File that training starts from, or goes on from.
    """
    model = detector_of(runner.model)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, FixedPointActivation)
    }
    if not layers:
        return
    state = state_dict_of(read_checkpoint(checkpoint))
    for name, layer in layers.items():
        if f'{name}.clip' in state:
            layer.set_shape(state[f'{name}.clip'].shape)


def set_rates(runner: Runner) -> None:
    """Give clip values and pretrained stems rates and decays of their own.

    Of ``custom_keys`` mmengine follows the longest that a parameter's name
    has, and no other: ``backbone`` would win over ``.clip``. So each of these
    parameters gets its whole name as a key, with what a config says of it.

    Args:
        runner: Its ``optim_wrapper`` is replaced; the config stays.
    """
    wrapper: Any = runner.optim_wrapper
    model = detector_of(runner.model)
    names = [name for name, _ in model.named_parameters()]
    clips = [name for name in names if name.endswith('.clip')]
    stems = dict(_pretrained_stems(model))
    if not (clips or stems) or not isinstance(wrapper, dict):
        return
    constructor = wrapper.get('constructor', DEFAULT_CONSTRUCTOR)
    if constructor != DEFAULT_CONSTRUCTOR:
        runner.logger.warning(
            f'optim_wrapper.constructor={constructor!r} says how clip values '
            'are trained, whose weight decay should be 0, and pretrained '
            'stems, whose rate should be lower'
        )
        return
    paramwise = wrapper.get('paramwise_cfg') or {}
    keys = paramwise.get('custom_keys') or {}
    own = {name: _of_clip(keys, name) for name in clips}
    optimizer = type_name(wrapper.get('optimizer') or {})
    for name, std in stems.items():
        powers = STEM_POWERS.get(optimizer)
        if powers is None:
            runner.logger.warning(
                f'{name} reads raw pixels and is pretrained: with '
                f'{optimizer} its rate is not lowered'
            )
        else:
            own[name] = _of_stem(keys, name, std, powers)
    runner.optim_wrapper = {
        **wrapper,
        'paramwise_cfg': {**paramwise, 'custom_keys': {**keys, **own}},
    }


def _of_clip(keys: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return options of a clip value, which does not decay by default.

    Weight decay pulls it towards zero, and what lies above it is cut off; no
    bias or norm of mmdet's own schedules is kept from it.
    """
    of_clips = {key: keys[key] for key in sorted(keys) if 'clip' in key}
    others = {key: keys[key] for key in sorted(keys) if 'clip' not in key}
    return {
        **_longest(others, name, {}),
        **_longest(of_clips, name, dict(decay_mult=0)),
    }


def _of_stem(
    keys: Mapping[str, Any], name: str, std: float, powers: tuple[int, int]
) -> dict[str, Any]:
    """Return options with which a stem moves as before it was divided.

    A norm follows, so that its weights' scale says nothing. Weights that are
    smaller by ``std`` have larger gradients by as much, and a step of SGD
    would move them ``std^2`` times as far, relative to their size: some 3300
    times, away from what was pretrained.
    """
    said = _longest({key: keys[key] for key in sorted(keys)}, name, {})
    rate, decay = powers
    return {
        **said,
        'lr_mult': said.get('lr_mult', 1) * std**rate,
        'decay_mult': said.get('decay_mult', 1) * std**decay,
    }


def _pretrained_stems(model: nn.Module) -> Iterator[tuple[str, float]]:
    """Yield names of stems' weights, and by what they are divided."""
    for name, module in model.named_modules():
        cfg = getattr(module, 'init_cfg', None)
        for init in cfg if isinstance(cfg, list) else [cfg]:
            if not init or type_name(init) != PretrainedRawImage.__name__:
                continue
            loader = PretrainedRawImage(
                **{k: v for k, v in init.items() if k != 'type'}
            )
            parts = [name] if name else []
            square = sum(x**2 for x in loader.std) / len(loader.std)
            yield '.'.join([*parts, loader.stem, 'weight']), square**0.5


def _longest(keys: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """Return what the longest key says that a name has."""
    found = [key for key in keys if key in name]
    return keys[max(found, key=len)] if found else otherwise
