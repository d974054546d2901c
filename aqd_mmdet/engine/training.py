"""What the training of a quantised detector needs of its runner."""

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner

from ..errors import UserError
from ..layers import FixedPointActivation
from ..models.quantized_detector import detector_of, quantized_layers
from .calibration import CalibrationHook
from .checkpoint import read_checkpoint, state_dict_of
from .integer_aware import IntegerAwareHook

# mmengine's name of what it builds where a config names nothing else.
DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
# Keys of `paramwise_cfg` for which that needs the optimiser's decay.
DECAYS = ('bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult')


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


def keep_clips(runner: Runner) -> None:
    """Let clip values not decay, unless a config says something of them.

    Weight decay pulls a clip value towards zero, and what lies above it is
    cut off; no bias or norm of mmdet's own schedules is kept from it.

    Of ``custom_keys`` mmengine follows the longest that a parameter's name
    has, and no other: ``backbone`` would win over ``.clip``. So each clip
    value gets its whole name as a key, with what a config says of it.

    Args:
        runner: Its ``optim_wrapper`` is replaced; the config stays.

    Raises:
        UserError: If the optimiser has no rate, which mmengine needs then, or
            no decay where one is multiplied.
    """
    wrapper: Any = runner.optim_wrapper
    parameters = detector_of(runner.model).named_parameters()
    clips = [name for name, _ in parameters if name.endswith('.clip')]
    if not isinstance(wrapper, dict):
        return
    constructor = wrapper.get('constructor', DEFAULT_CONSTRUCTOR)
    if constructor == DEFAULT_CONSTRUCTOR:
        _need_decay(wrapper)
    if not clips:
        return
    if constructor != DEFAULT_CONSTRUCTOR:
        runner.logger.warning(
            f'optim_wrapper.constructor={constructor!r} says how clip values '
            'are trained: their weight decay should be 0'
        )
        return
    if 'lr' not in (wrapper.get('optimizer') or {}):
        raise UserError('optim_wrapper.optimizer has no lr: give one')
    paramwise = wrapper.get('paramwise_cfg') or {}
    keys = paramwise.get('custom_keys') or {}
    of_clips = {key: keys[key] for key in sorted(keys) if 'clip' in key}
    others = {key: keys[key] for key in sorted(keys) if 'clip' not in key}
    own = {
        name: {
            **_longest(others, name, {}),
            # Where the optimiser has a decay of its own, not the config's,
            # mmengine has nothing that decay_mult could multiply.
            **_longest(of_clips, name, dict(weight_decay=0.0)),
        }
        for name in clips
    }
    runner.optim_wrapper = {
        **wrapper,
        'paramwise_cfg': {
            # Layers that several levels share are there once.
            'bypass_duplicate': True,
            **paramwise,
            'custom_keys': {**keys, **own},
        },
    }


def _need_decay(wrapper: Mapping[str, Any]) -> None:
    """Raise if something multiplies a weight decay that there is not."""
    paramwise = wrapper.get('paramwise_cfg') or {}
    keys = paramwise.get('custom_keys') or {}
    if not isinstance(keys, dict) or not all(
        isinstance(own, dict) for own in keys.values()
    ):
        raise UserError(
            'optim_wrapper.paramwise_cfg.custom_keys: expected a dict such as '
            'dict(lr_mult=0.1) for each name'
        )
    multiplied = [
        *(name for name in DECAYS if name in paramwise),
        *(f'custom_keys {key!r}' for key in keys if 'decay_mult' in keys[key]),
    ]
    optimizer = wrapper.get('optimizer') or {}
    if multiplied and optimizer.get('weight_decay') is None:
        raise UserError(
            'optim_wrapper.optimizer has no weight_decay, which paramwise_cfg '
            f'multiplies ({multiplied[0]}): give one, 0 for none'
        )


def _longest(keys: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """Return what the longest key says that a name has."""
    found = [key for key in keys if key in name]
    return keys[max(found, key=len)] if found else otherwise
