"""The float detector teaches the quantised one while it is trained."""

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ..compiler.trace import dense_head, region_heads
from ..errors import UserError
from ..models.quantized_detector import detector_of, quantized_layers
from ..models.recipe import FLOAT
from ..patches import patched
from ..post_training.distillation import difference
from ..post_training.sensitivity import flat_maps
from ..registry import HOOKS, MODELS
from .checkpoint import check_checkpoint, read_checkpoint, state_dict_of


@HOOKS.register_module()
class TeacherHook(Hook):
    """Adds to the losses how far the maps are from the float detector's.

    The maps are those that the dense head is given, and those that it makes;
    each counts its mean squared error in units of its variance. The float
    detector is that of the config with ``bits='float'``; it sees the same
    pictures, and its norms use their running statistics.

    Args:
        checkpoint: Of the float detector, trained with the config's own
            preprocessor; by default the ``load_from`` of the config, from
            which the quantised one starts.
        weight: Of the difference, beside the detector's own losses.

    Raises:
        UserError: If the weight is not positive.
    """

    def __init__(
        self, checkpoint: str | None = None, weight: float = 1.0
    ) -> None:
        if not weight > 0:
            raise UserError(
                f'weight={weight!r} of TeacherHook: give a positive number, '
                'or leave the hook out'
            )
        self.checkpoint = checkpoint
        self.weight = weight
        self._stack = ExitStack()
        self._found: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Build the teacher, if the detector is quantised."""
        student: Any = detector_of(runner.model)
        if not quantized_layers(student):
            return
        if region_heads(student):
            raise UserError(
                'TeacherHook: regions of a second stage differ between two '
                'detectors; leave it out of a two-stage detector'
            )
        teacher = self._teacher(runner, student)
        own = student.loss

        def loss(inputs: Tensor, samples: Any, **options: Any) -> Any:
            self._found.clear()
            losses = own(inputs, samples, **options)
            with torch.no_grad():
                features = teacher.extract_feat(inputs)
                maps = dense_head(teacher)(features)
            # Training on integers makes no features.
            made = (
                [maps] if 'extract_feat' in vars(student) else [features, maps]
            )
            goals = list(flat_maps(made))
            far = difference(self._found[-len(goals) :], goals)
            self._found.clear()
            return {**losses, 'loss_teacher': self.weight * far}

        head = dense_head(student)
        # No method of this hook: a validation on a GPU copies the detector.
        keep = _keeping(self._found)
        self._stack.callback(head.register_forward_hook(keep).remove)
        self._stack.enter_context(patched(student, loss=loss))

    def after_train(self, runner: Runner) -> None:
        """Let the detector's losses be its own again."""
        self._stack.close()

    def _teacher(self, runner: Runner, student: nn.Module) -> Any:
        path = self.checkpoint or runner.cfg.get('load_from')
        if not self.checkpoint and runner.cfg.get('resume'):
            path = runner.cfg.get('started_from') or path
        if not path:
            raise UserError(
                'TeacherHook: there is no float detector; give `checkpoint` '
                'to the hook, or `load_from` to the config'
            )
        cfg = deepcopy(runner.cfg.model)
        cfg.bits = FLOAT
        teacher = MODELS.build(cfg)
        try:
            check_checkpoint(path, teacher, for_training=False)
        except UserError as error:
            raise UserError(
                f'TeacherHook reads the float detector from {path}: {error}; '
                'give another `checkpoint` to the hook'
            ) from None
        teacher.load_state_dict(state_dict_of(read_checkpoint(path)))
        device = next(student.parameters()).device
        teacher.to(device).eval().requires_grad_(False)
        # Its maps shall be those of losses: FCOS multiplies others by strides.
        dense_head(teacher).training = True
        return teacher


def _keeping(found: list[Tensor]) -> Callable[..., None]:
    """Return a forward hook of a head that keeps its maps of training.

    Args:
        found: What the head is given, and what it makes.
    """

    def keep(head: nn.Module, args: tuple, output: Any) -> None:
        if head.training:
            found[:] = flat_maps([args[0], output])

    return keep
