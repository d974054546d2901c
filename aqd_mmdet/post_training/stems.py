"""Stems: the convolutions that read pixels, and what precedes them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..compiler.trace import need_compilable
from ..errors import UserError
from ..models.operations import PROBE_SIZE, maps_of
from ..patches import patched
from .offsets import norms_behind

# Of a map's range, how much it may differ once the preprocessor is folded.
# Roundings of floats make a millionth of it, and a thousandth behind norms of
# hardly any variance; an average of the image that keeps its deviations makes
# much more than a hundredth.
ROUNDING, TOLERANCE = 1e-3, 1e-2


def find_stems(detector: Any) -> dict[str, nn.Conv2d]:
    """Return the convolutions that read pixels, by name.

    They are those whose input has no number that the image has not: it may
    be the image, or slices of it side by side (a focus).

    Args:
        detector: A float detector.

    Raises:
        UserError: If there is none, or one that reads features as well, or
            the detector is of a kind that no program can be.
    """
    need_compilable(detector)
    generator = torch.Generator().manual_seed(0)
    weight = next(detector.parameters())
    # Numbers that no layer makes by chance.
    image = torch.rand(1, 3, PROBE_SIZE, PROBE_SIZE, generator=generator)
    image = (image + 1).to(weight)
    stems: dict[str, nn.Conv2d] = {}
    others: set[str] = set()

    def look(name: str, module: nn.Conv2d, x: Tensor) -> None:
        if torch.isin(x, image).all():
            stems[name] = module
        else:
            others.add(name)

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
    for name in others & stems.keys():
        raise UserError(
            f'{name}: expected a convolution of the image or of features, '
            'found one that reads both: give each a convolution of its own'
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
        UserError: If a stem reads something else than three channels, the
            border is none of zeros, or more than stems reads the image.
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
    for name, conv in stems.items():
        if conv.weight.shape[1] != len(mean) or conv.groups != 1:
            raise UserError(
                f'{name}: expected a convolution of {len(mean)} channels, '
                f'into which data_preprocessor.std can be folded, found '
                f'{tuple(conv.weight.shape)}'
            )
    norms = norms_behind(detector, stems.values())
    before = _maps(detector, stems)
    offsets = _fold_deviations(stems.values(), whole - mean, std)
    _need_own_biases(offsets)
    pre.mean.copy_(whole.view_as(pre.mean))
    pre.std.fill_(1)
    _keep(offsets, norms)
    if _distance(before, _maps(detector, stems)) > ROUNDING:
        # What a stem makes may be read by more than its norms.
        _keep({conv: -offset for conv, offset in offsets.items()}, norms)
        _keep(offsets, {conv: [] for conv in offsets})
        _need_same(detector, stems, before)


def _fold_deviations(
    stems: Iterable[nn.Conv2d], shift: Tensor, std: Tensor
) -> dict[nn.Conv2d, Tensor]:
    """Divide weights by deviations; return what a shift of pixels adds."""
    offsets = {}
    divided = set()
    for conv in stems:
        if id(conv.weight) not in divided:  # tied ones are divided once
            divided.add(id(conv.weight))
            conv.weight /= std[:, None, None].to(conv.weight)
        sums = conv.weight.double().sum((2, 3))
        offsets[conv] = (sums * shift.to(sums)).sum(1).to(conv.weight)
    return offsets


def _need_own_biases(offsets: Mapping[nn.Conv2d, Tensor]) -> None:
    """Raise if convolutions of different weights share a bias."""
    first: dict[int, Tensor] = {}
    for conv, offset in offsets.items():
        known = first.setdefault(id(conv.bias), offset)
        if conv.bias is not None and not torch.equal(known, offset):
            raise UserError(
                f'{conv}: it shares its bias with another convolution that '
                'reads the image, whose weights are others: what is left of '
                'data_preprocessor.mean adds another number to each; give '
                'each a bias of its own'
            )


def _keep(
    offsets: Mapping[nn.Conv2d, Tensor],
    norms: Mapping[nn.Module, list[Any]],
) -> None:
    """Add offsets to what layers make, by their norms where they have any."""
    kept: dict[int, Tensor] = {}
    for conv, offset in offsets.items():
        if conv.bias is None and not norms[conv]:
            conv.bias = nn.Parameter(torch.zeros_like(offset))
        if conv.bias is not None:
            changes = [(conv.bias, offset)]
        else:
            changes = [(norm.running_mean, -offset) for norm in norms[conv]]
        for values, change in changes:
            # Tied ones are changed once.
            if kept.setdefault(id(values), change) is change:
                values += change


def _maps(detector: Any, stems: Mapping[str, nn.Conv2d]) -> list[Tensor]:
    """Return a detector's maps of pixels, without what borders do to them."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, PROBE_SIZE, PROBE_SIZE)
    pixels = torch.randint(256, shape, generator=generator)
    pre = detector.data_preprocessor
    with ExitStack() as stack:
        for conv in stems.values():
            # A border of pixels is the same before and after.
            border = patched(conv, padding_mode='replicate')
            stack.enter_context(border)
        return maps_of(detector, (pixels.to(pre.mean) - pre.mean) / pre.std)


def _distance(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the largest difference of maps, as a share of a map's range."""
    shares = [0.0]
    for x, y in zip(before, after, strict=True):
        most = x.abs().max().clamp_min(1e-12)
        # The numbers of a constant map differ by roundings alone.
        extent = torch.maximum(x.max() - x.min(), 0.01 * most)
        shares.append(float((x - y).abs().max() / extent))
    return max(shares)


def _need_same(
    detector: Any, stems: Mapping[str, nn.Conv2d], before: Sequence[Tensor]
) -> None:
    """Raise if a detector makes other maps than before it was folded."""
    if _distance(before, _maps(detector, stems)) > TOLERANCE:
        raise UserError(
            f'{type(detector).__name__}: data_preprocessor.mean and .std are '
            f'folded into {", ".join(stems)}: expected plain convolutions '
            'that alone read the image, found other maps behind them (an '
            'average or a norm of the image, a convolution that norms its '
            'weights or shares them with others); train it with whole means '
            'and std=[1, 1, 1], or let convolutions read the image first'
        )


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
