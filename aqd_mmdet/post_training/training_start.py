"""A detector quantised after training, as a start for training."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..config import type_name
from ..errors import UserError
from ..models.quantized_detector import quantized_layers
from .offsets import norms_behind
from .stems import use_folded_preprocessor


def check_is_plain(cfg: Config) -> None:
    """Raise if a config has a recipe of its own.

    Args:
        cfg: The float detector's, whole.

    Raises:
        UserError: If its detector is a QuantizedDetector.
    """
    if type_name(cfg.model) == 'QuantizedDetector':
        raise UserError(
            'the config has a QuantizedDetector: give its model.bits a width '
            'and train it; --write-config is for configs that have none'
        )


def training_config(
    cfg: Config, hooks: Config, student: Any, recipe: Sequence[dict[str, Any]]
) -> Config:
    """Return a config whose detector is quantised and can be trained on.

    Args:
        cfg: The float detector's, whole, of :func:`check_is_plain`.
        hooks: ``configs/_base_/aqd_hooks.py``: imports and hooks.
        student: The quantised detector.
        recipe: By which it was quantised.
    """
    model = cfg.model.to_dict()
    kind = model.pop('type')
    result = cfg.copy()
    result.model = dict(
        type='aqd_mmdet.QuantizedDetector',
        detector=kind,
        bits=8,  # where a rule names none
        recipe=list(recipe),
        **model,
    )
    use_folded_preprocessor(result, student)
    result.merge_from_dict(dict(default_hooks=hooks.aqd_hooks.to_dict()))
    imports = cfg.get('custom_imports', {}).get('imports', ())
    if isinstance(imports, str):  # as mmengine takes a single one
        imports = [imports]
    result.custom_imports = dict(
        hooks.custom_imports,
        imports=[*imports, *hooks.custom_imports.imports],
    )
    return result


@torch.no_grad()
def training_state(
    student: Any, cfg: Config
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights that a training starts with.

    Bias correction gives a bias to convolutions that have none. It goes into
    the mean of the norm behind; where there is none, it is left out.

    Args:
        student: The quantised detector; it is left as it is.
        cfg: Of :func:`training_config`.

    Returns:
        tuple: A state dict that fits the config's detector, and the names of
        the layers whose bias is left out.
    """
    target: nn.Module = MODELS.build(cfg.model).eval()
    state = dict(student.state_dict())
    offsets = {
        key.removesuffix('.bias'): state.pop(key)
        for key in sorted(state.keys() - target.state_dict().keys())
        if key.endswith('.bias')
    }
    target.load_state_dict(state)
    norms = norms_behind(target, quantized_layers(target).values())
    left_out: list[str] = []
    done: set[nn.Module] = set()
    for name, offset in offsets.items():
        layer = target.get_submodule(name)
        if layer in done:  # one layer under two names
            continue
        done.add(layer)
        for norm in norms[layer]:
            norm.running_mean -= offset
        if not norms[layer]:
            left_out.append(name)
    return target.state_dict(), left_out
