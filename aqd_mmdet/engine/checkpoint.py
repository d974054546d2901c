"""Checkpoints: read without running code in them, checked against a model."""

import pickle
from collections.abc import Iterable
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
import torch
import torch.hub
from mmengine.logging import print_log
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from ..config import same_labels
from ..errors import UserError
from ..files import make_folder
from ..layers import FixedPointActivation
from ..layers.multi_level_norm import MultiLevelBN
from ..models.quantized_detector import detector_of
from ..quantizers.quantizer import Quantizer

# Parts that may be of another size where a detector is fine-tuned on other
# classes; everything else must fit.
FEATURE_PARTS = ('backbone', 'neck', 'data_preprocessor')


def _statistic(owner: type, name: str) -> Any:
    """Stand in for ``getattr`` in a checkpoint's pickle.

    mmengine's log buffers refer to four methods of their class by it; with
    the real one, a file could reach anything.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r})')


_core = np._core if hasattr(np, '_core') else np.core
# What mmengine puts into a checkpoint beside tensors and plain data. numpy
# moved two functions in its version 2; files name either place.
SAFE_GLOBALS: list[Any] = [
    HistoryBuffer,
    (_statistic, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32)},
    *(
        (getattr(_core.multiarray, name), f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ),
]


def read_checkpoint(
    path: str | Path, map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Read a local checkpoint; never runs code that a file may hold.

    Args:
        path: A file written by mmengine or ``torch.save``.
        map_location: As of ``torch.load``.

    Raises:
        UserError: If it is missing, cut off, or holds anything but tensors,
            plain data and mmengine's log buffers.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(
            f'checkpoint {path}: it is a folder; give a file in it'
        )
    if not path.is_file():
        raise UserError(f'checkpoint {path}: no such file')
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            checkpoint = torch.load(
                path, map_location=map_location, weights_only=True
            )
    except pickle.UnpicklingError as error:
        raise UserError(
            f'checkpoint {path}: it holds more than tensors and plain data, '
            f'or is no checkpoint, and was not loaded ({_reason(error)})'
        ) from None
    except Exception as error:  # of bytes that are no pickle, many kinds
        raise UserError(
            f'checkpoint {path}: the file is cut off, damaged or no '
            f'checkpoint ({_reason(error)}); copy or train it again'
        ) from None
    if not isinstance(checkpoint, dict):
        raise UserError(
            f'checkpoint {path}: expected a dict with a '
            f'state_dict, found {type(checkpoint).__name__}'
        )
    return checkpoint


def downloaded(path: str | Path) -> str:
    """Return the name of a checkpoint's file on this machine.

    mmengine reads a URL by itself, code that it holds included, and takes
    over what fits; a file on this machine is checked first.

    Args:
        path: A file, or its URL, which is downloaded once.

    Raises:
        UserError: If it cannot be downloaded.
    """
    path = str(path)
    scheme, separator, _ = path.partition('://')
    if not separator:
        return path
    if scheme.lower() not in ('http', 'https'):
        raise UserError(
            f'checkpoint {path}: expected a file, or a URL of http or https; '
            'copy it to this machine'
        )
    # Runs give their files the same names.
    number = sha256(path.encode()).hexdigest()[:8]
    name = f'{number}_{Path(_parts(path).path).name}'
    file = Path(torch.hub.get_dir(), 'checkpoints', name)
    if file.is_file():
        print_log(f'checkpoint {path}: was downloaded as {file}', 'current')
        return str(file)
    make_folder(file.parent)
    try:
        torch.hub.download_url_to_file(path, str(file), progress=False)
    except (OSError, HTTPException) as error:
        raise UserError(
            f'checkpoint {path}: it cannot be downloaded ({_reason(error)})'
        ) from None
    return str(file)


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise UserError(f'checkpoint {url}: no URL ({error})') from None


def _reason(error: Exception) -> str:
    lines = [x.strip() for x in str(error).splitlines() if x.strip()]
    for line in lines:
        if 'Unsupported' in line or 'GLOBAL' in line or 'getattr' in line:
            return line[:160]
    return lines[0][:160] if lines else type(error).__name__


def _load_local(filename: str, map_location: Any) -> dict[str, Any]:
    return read_checkpoint(filename, map_location)


def use_safe_loader() -> None:
    """Let mmengine read every local file by :func:`read_checkpoint`.

    Resuming included: of the two stacks one fails to resume, the other falls
    back to a load that runs a file's code.
    """
    CheckpointLoader.register_scheme('', _load_local, force=True)


def state_dict_of(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint, names as of an unwrapped model.

    Raises:
        UserError: If it holds anything else.
    """
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) for name in state
    ):
        raise UserError(
            'a checkpoint that is not of MMDetection: expected `state_dict` '
            'to be a dict of tensors by their names, found '
            f'{type(state).__name__}'
            f'{" with other keys" if isinstance(state, dict) else ""}'
        )
    others = [n for n, x in state.items() if not isinstance(x, Tensor)]
    if others:
        raise UserError(
            'a checkpoint that is not of MMDetection: expected tensors in '
            f'`state_dict`, found {type(state[others[0]]).__name__} called '
            f'{others[0]!r}'
        )
    return {name.removeprefix('module.'): v for name, v in state.items()}


def quantizer_names(model: nn.Module) -> set[str]:
    """Return the state-dict names that belong to quantisers."""
    return {
        f'{name}.{key}'
        for name, module in model.named_modules()
        if isinstance(module, Quantizer)
        for key in module.state_dict()
    }


def bits_of(format: Tensor) -> int:
    """Return the width of a quantiser's codes.

    Args:
        format: As of :class:`Quantizer`, (lo, hi, stride, normalized, ...).
    """
    low, high, stride, *_ = format.tolist()
    return ((high - low) // stride).bit_length()


def check_checkpoint(
    path: str | Path,
    model: nn.Module,
    for_training: bool,
    labels: tuple[str, ...] | None = None,
) -> None:
    """Raise if a checkpoint was not made for a model.

    mmengine loads what fits by name and warns about the rest, so that a
    checkpoint of another architecture gives a detector that finds nothing.

    Args:
        path: The checkpoint.
        model: The detector that shall load it.
        for_training: Whether training starts from it. Then quantisers may be
            missing or of another width (they are calibrated), and a head's
            outputs may be for other classes.
        labels: Class names that the checkpoint shall be of, if it names any.

    Raises:
        UserError: With the first names that do not fit.
    """
    model = detector_of(model)
    checkpoint = read_checkpoint(path)
    if labels is not None:
        _check_labels(path, checkpoint, labels)
    state = state_dict_of(checkpoint)
    for name, module in model.named_modules():
        if isinstance(module, MultiLevelBN):
            state = module.expand_shared(state, f'{name}.')
    _check_formats(path, state, model.state_dict(), for_training)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f'checkpoint {path}: {name} has values that are not finite: '
                'its training went wrong; take an earlier one'
            )
    _check_names(path, state, model, for_training)


def _check_names(
    path: str | Path,
    state: dict[str, Tensor],
    model: nn.Module,
    for_training: bool,
) -> None:
    """Raise if names or shapes of a checkpoint are not those of a model."""
    expected, of_quantizers = model.state_dict(), quantizer_names(model)
    missing = [n for n in expected if n not in state]
    extra = [n for n in state if n not in expected]
    reshaped = [
        n
        for n, tensor in expected.items()
        if n in state
        and tensor.shape != state[n].shape
        and not (
            for_training
            and n.split('.')[0] not in FEATURE_PARTS
            and tensor.shape[1:] == state[n].shape[1:]
        )
    ]
    # Calibration says how many steps they have.
    free = {
        f'{name}.clip'
        for name, module in model.named_modules()
        if isinstance(module, FixedPointActivation)
    }
    reshaped = [n for n in reshaped if n not in free]
    if for_training:  # the others are calibrated
        missing = sorted(set(missing) - of_quantizers)
        reshaped = sorted(set(reshaped) - of_quantizers)
        owners = {n.rpartition('.')[0] for n in of_quantizers}
        extra = [n for n in extra if n.rpartition('.')[0] not in owners]
    quantized_only = bool(missing) and set(missing) <= of_quantizers
    if quantized_only and not extra and not reshaped:
        raise UserError(
            f'checkpoint {path} is of the float detector: it has no clip '
            'values. Train this config from it (load_from), or test it with '
            'the float config'
        )
    for what, names in (
        ('lacks', missing),
        ('has besides', extra),
        ('has in another shape', reshaped),
    ):
        if names:
            raise UserError(
                f'checkpoint {path} is of another detector than the config: '
                f'it {what} {len(names)} of the names, such as '
                f'{", ".join(names[:3])}'
            )


def _check_labels(
    path: str | Path, checkpoint: dict[str, Any], labels: tuple[str, ...]
) -> None:
    """Raise if a checkpoint was trained for other labels."""
    kept: Any = checkpoint
    for key in ('meta', 'dataset_meta', 'classes'):
        if not isinstance(kept, dict):
            raise UserError(
                f'checkpoint {path} is not of MMDetection: expected a dict '
                f'that has {key!r}, found {kept!r:.60}'
            )
        kept = kept.get(key) or {}
    if isinstance(kept, str) or not isinstance(kept, Iterable):
        raise UserError(
            f'checkpoint {path} is not of MMDetection: expected names as '
            f"'classes', found {kept!r:.60}"
        )
    if kept:
        same_labels({f'checkpoint {path}': tuple(kept), 'the config': labels})


def _check_formats(
    path: str | Path,
    state: dict[str, Tensor],
    expected: dict[str, Tensor],
    for_training: bool,
) -> None:
    """Raise if a checkpoint's clip values are of other grids than a model's.

    In training, say so: they will be calibrated anew.
    """
    formats = [n for n in expected if n.endswith('.format')]
    silent = [
        n
        for n in formats
        if n not in state and n.replace('.format', '.clip') in state
    ]
    if silent:
        raise UserError(
            f'checkpoint {path} does not say for which widths its clip values '
            f'were trained ({silent[0]} is missing): it is of an earlier '
            'release; train it again'
        )
    others = [
        n
        for n in formats
        if n in state and state[n].tolist() != expected[n].tolist()
    ]
    if not others:
        return
    first = others[0]
    difference = (
        f'{len(others)} of its quantisers have another grid than in the '
        f'config, such as {first.removesuffix(".format")}: '
        f'{_described(state[first])} there, {_described(expected[first])} here'
    )
    if not for_training:
        raise UserError(
            f'checkpoint {path} was trained for other widths: {difference}. '
            'Set model.bits and the recipe to those that it was trained with, '
            'or train this config from it (load_from)'
        )
    print_log(
        f'checkpoint {path} is of other widths: {difference}. Training starts '
        'from its weights; clip values are calibrated anew',
        logger='current',
    )


def _described(format: Tensor) -> str:
    if (
        format.is_floating_point()
        or tuple(format.shape) not in ((4,), (5,))
        or not format[2]
    ):
        return f'no grid ({format.tolist()!s:.60})'
    low, high, _, normalized, *asymmetric = format.tolist()
    return (
        f'{bits_of(format)} bits (codes {low}..{high}'
        f'{", of normalised weights" if normalized else ""}'
        f'{", with a zero point" if asymmetric else ""})'
    )
