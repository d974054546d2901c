"""Distillation: the float detector teaches the quantised one.

Both see the same unlabelled pictures. What the student learns are its weights,
clip values, norms' factors and offsets, so that its maps become the teacher's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.quantized_detector import quantized_layers
from ..quantizers.quantizer import Quantizer

# Of a weight in a step of Adam, in steps of its grid: in a hundred steps it
# may cross one or two thresholds.
WEIGHT_RATE = 0.02
# Of a clip value, as a share of it.
CLIP_RATE = 0.002
# Of norms and biases.
OTHER_RATE = 0.001
BATCH_SIZE = 4


def distill(
    student: Any,
    teacher: Any,
    pictures: Sequence[Tensor],
    steps: int,
    seed: int = 0,
) -> Iterator[float]:
    """Train a quantised detector; yield the loss of each step.

    Norms keep their statistics, so that a small batch does no harm.

    Args:
        student: The calibrated detector; changed in place.
        teacher: The float detector.
        pictures: Of one size, as :func:`~.calibration.calibrate` reads them.
        steps: How many.
        seed: Of the order of pictures.
    """
    student.eval()
    groups = _groups(student)
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        if len(order) < BATCH_SIZE:
            order += torch.randperm(
                len(pictures), generator=generator
            ).tolist()
        optimizer.zero_grad()
        total = 0.0
        # One by one: their sizes may differ.
        for _ in range(BATCH_SIZE):
            picture = pictures[order.pop()]
            # A mirrored picture is another one.
            if torch.rand((), generator=generator) < 0.5:
                picture = picture.flip(3)
            with torch.no_grad():
                goals = maps(teacher, picture)
            loss = difference(maps(student, picture), goals) / BATCH_SIZE
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        schedule.step()
        yield total


def maps(detector: Any, batch: Tensor) -> list[Tensor]:
    """Return the maps of a detector's neck and of its dense head."""
    features = detector.extract_feat(batch)
    head = getattr(detector, 'bbox_head', None) or detector.rpn_head
    return [*_tensors(features), *_tensors(head(features))]


def _tensors(nest: Any) -> list[Tensor]:
    if isinstance(nest, Tensor):
        return [nest]
    return [x for child in nest for x in _tensors(child)]


def difference(found: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    """Return the mean squared error of maps, each in units of its variance."""
    errors = [
        (x - goal).square().mean() / goal.var().clamp_min(1e-12)
        for x, goal in zip(found, goals, strict=True)
    ]
    return torch.stack(errors).mean()


def _groups(student: nn.Module) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    taken: set[int] = set()
    for layer in quantized_layers(student).values():
        step = float(layer.weight_quantizer.step.mean())
        groups.append(dict(params=[layer.weight], lr=WEIGHT_RATE * step))
        taken.add(id(layer.weight))
    for module in student.modules():
        if isinstance(module, Quantizer) and module.clip.requires_grad:
            clip = module.clip
            rate = CLIP_RATE * float(clip.detach().abs().mean())
            groups.append(dict(params=[clip], lr=rate))
            taken.add(id(clip))
    others = [
        p
        for p in student.parameters()
        if p.requires_grad and id(p) not in taken
    ]
    groups.append(dict(params=others, lr=OTHER_RATE))
    return groups
