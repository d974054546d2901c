"""Distillation: the float detector teaches the quantised one.

Both see the same unlabelled pictures. What the student learns are its weights,
clip values, norms' factors and offsets, so that its maps become the teacher's
(Hinton et al., "Distilling the Knowledge in a Neural Network"; with the maps
of a pyramid as goals, Li et al., "Mimicking Very Efficient Network for Object
Detection").
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.quantized_detector import quantized_layers
from ..quantizers.quantizer import Quantizer
from .sensitivity import flat_maps, variance

# Steps of training, and pictures in each: 300 passes, which take about as
# long as all that precedes them.
STEPS, BATCH_SIZE = 150, 2
# Of a weight in a step of Adam, in steps of its grid: in all steps it may
# cross a threshold, but most stay where reconstruction put them. Rates four
# times as high undo some of its work.
WEIGHT_RATE = 0.005
# Of a clip value, as a share of it.
CLIP_RATE = 0.0005
# Of norms and biases.
OTHER_RATE = 0.0002


def distill(
    student: Any, teacher: Any, pictures: Sequence[Tensor], steps: int = STEPS
) -> Iterator[float]:
    """Train a quantised detector; yield the loss of each step.

    Norms keep their statistics, so that a small batch does no harm. Second
    stages, whose regions differ, learn nothing.

    Args:
        student: The detector, as :func:`~.correction.correct` left it;
            changed in place.
        teacher: The float detector.
        pictures: As :func:`~.calibration.calibrate` reads them.
        steps: How many.
    """
    student.eval()
    optimizer = torch.optim.Adam(_groups(student))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    order: list[int] = []
    for _ in range(steps):
        optimizer.zero_grad()
        total = 0.0
        # One by one: their sizes may differ.
        for _ in range(BATCH_SIZE):
            if not order:
                order = torch.randperm(
                    len(pictures), generator=generator
                ).tolist()
            picture = pictures[order.pop()]
            # A mirrored picture is another one.
            if torch.rand((), generator=generator) < 0.5:
                picture = picture.flip(3)
            with torch.no_grad():
                goals = dense_maps(teacher, picture)
            found = dense_maps(student, picture)
            loss = difference(found, goals) / BATCH_SIZE
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        schedule.step()
        yield total


def dense_maps(detector: Any, picture: Tensor) -> list[Tensor]:
    """Return the maps of a detector's neck and of its dense head."""
    features = detector.extract_feat(picture)
    head = getattr(detector, 'bbox_head', None) or detector.rpn_head
    return list(flat_maps([features, head(features)]))


def difference(found: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    """Return the mean squared error of maps, each in units of its variance."""
    errors = [
        (x - goal).square().mean() / variance(goal)
        for x, goal in zip(found, goals, strict=True)
    ]
    return torch.stack(errors).mean()


def _groups(student: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters, each with the rate of its kind."""
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
