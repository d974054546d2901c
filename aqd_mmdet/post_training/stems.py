"""Stems: the convolutions that read pixels, and what precedes them."""

from contextlib import ExitStack
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..compiler.trace import need_compilable
from ..errors import UserError
from ..models.operations import PROBE_SIZE
from .offsets import norms_behind


def find_stems(detector: Any) -> dict[str, nn.Conv2d]:
    """Return the convolutions that read pixels, by name.

    They are those whose input has no number that the image has not: it may
    be the image, or slices of it side by side (a focus).

    Args:
        detector: A float detector.

    Raises:
        UserError: If there is none, or the detector is of a kind that no
            program can be.
    """
    need_compilable(detector)
    generator = torch.Generator().manual_seed(0)
    weight = next(detector.parameters())
    # Numbers that no layer makes by chance.
    image = torch.rand(1, 3, PROBE_SIZE, PROBE_SIZE, generator=generator)
    image = (image + 1).to(weight)
    stems: dict[str, nn.Conv2d] = {}

    def look(name: str, module: nn.Conv2d, x: Tensor) -> None:
        if torch.isin(x, image).all():
            stems[name] = module

    with ExitStack() as stack:
        for name, module in detector.named_modules():
            if isinstance(module, nn.Conv2d):
                handle = module.register_forward_pre_hook(
                    lambda m, args, name=name: look(name, m, args[0])
                )
                stack.callback(handle.remove)
        with torch.no_grad():
            detector.extract_feat(image)
    if not stems:
        raise UserError(
            f'{type(detector).__name__}: expected a convolution that reads '
            'the image, found none: detectors whose first layer is another '
            'one (transformers) are not supported'
        )
    return stems


@torch.no_grad()
def fold_preprocessor(detector: Any, stems: dict[str, nn.Conv2d]) -> None:
    """Fold the preprocessor's deviations into the stems.

    A program reads bytes minus whole numbers. Means are rounded, and what is
    left of them goes into the stem's offset, where it is exact but for the
    border of the image: less than half a grey level there.

    Args:
        detector: A float detector in evaluation mode; changed in place.
        stems: Of :func:`find_stems`.

    Raises:
        UserError: If a stem reads something else than three channels, or the
            border is none of zeros.
    """
    pre = detector.data_preprocessor
    if not getattr(pre, '_enable_normalize', False):
        return
    mean, std = (x.detach().flatten().double() for x in (pre.mean, pre.std))
    whole = torch.floor(mean + 0.5)
    if torch.equal(mean, whole) and (std == 1).all():
        return
    if pre.pad_value != 0:
        raise UserError(
            f'data_preprocessor.pad_value={pre.pad_value}: it is in '
            'deviations, which are folded into the stem; expected 0'
        )
    norms = norms_behind(detector, stems.values())
    for name, conv in stems.items():
        if conv.weight.shape[1] != len(mean) or conv.groups != 1:
            raise UserError(
                f'{name}: expected a convolution of {len(mean)} channels, '
                f'into which data_preprocessor.std can be folded, found '
                f'{tuple(conv.weight.shape)}'
            )
        weight = conv.weight.double() / std[:, None, None]
        offset = (weight.sum((2, 3)) * (whole - mean)).sum(1)
        conv.weight.copy_(weight)
        offset = offset.to(conv.weight)
        if conv.bias is not None:
            conv.bias += offset
        elif norms[conv]:
            for norm in norms[conv]:
                norm.running_mean -= offset
        else:
            conv.bias = nn.Parameter(offset)
    pre.mean.copy_(whole.view_as(pre.mean))
    pre.std.fill_(1)


def use_folded_preprocessor(cfg: Config, detector: Any) -> None:
    """Let a config have the preprocessor that :func:`fold_preprocessor` left.

    Args:
        cfg: The whole config of the detector, changed in place.
        detector: The detector.
    """
    pre = detector.data_preprocessor
    if getattr(pre, '_enable_normalize', False):
        mean, std = (x.flatten().tolist() for x in (pre.mean, pre.std))
        cfg.model.data_preprocessor.update(mean=mean, std=std)
