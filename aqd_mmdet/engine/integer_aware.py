"""Validation on integers, and training on them in the last epochs."""

from contextlib import ExitStack
from typing import Any

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from ..models.integer_aware import IntegerNetwork, integer_aware
from ..models.quantized_detector import detector_of, quantized_layers
from ..registry import HOOKS


@HOOKS.register_module()
class IntegerAwareHook(Hook):
    """Runs a quantised detector's network as its integer program.

    In every validation and test, so that the AP that is reported is the
    program's; and in training from an epoch on, if one is given, with the
    norms' statistics frozen, since they are constants of the program.

    The program is made of the weights at the first image, so that hooks that
    exchange weights for a validation, as EMAHook does, may stand before or
    behind this one. In distributed training the norms' statistics are those of
    the first process, which is what checkpoints hold: without SyncBN, each
    process has its own. A detector that is not quantised, or of which parts
    stay float, is validated in float; the log says why.

    Args:
        from_epoch: First epoch, from 1, that trains on the program's codes
            (in loops that count iterations: the first iteration), or None to
            train in the float simulation throughout.

    Raises:
        UserError: If it is anything else.
    """

    def __init__(self, from_epoch: int | None = None) -> None:
        if from_epoch is not None and (
            type(from_epoch) is not int or from_epoch < 1
        ):
            raise UserError(
                f'from_epoch={from_epoch!r} of IntegerAwareHook: expected an '
                'epoch, from 1, or None'
            )
        self.from_epoch = from_epoch
        # For boxes and for losses.
        self._networks: dict[bool, IntegerNetwork] = {}
        self._stack = ExitStack()
        self._trains = False
        self._refused = False
        self._told = False

    def before_val_epoch(self, runner: Runner) -> None:
        """Switch to the integers of boxes."""
        self._leave()
        _share_statistics(detector_of(runner.model))
        if self._enter(runner, training=False):
            runner.logger.info(
                'evaluated on integers, as the program computes them'
            )

    def after_val_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        """Switch back; the next step of training enters by itself."""
        self._leave()

    before_test_epoch = before_val_epoch
    after_test_epoch = after_val_epoch

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Switch to the integers of losses if their time has come.

        Before each step, and not each epoch: loops that count iterations
        validate between two of them and have one epoch alone.
        """
        if not self._trains:
            if self.from_epoch is None:
                return
            detector = detector_of(runner.model)
            if True not in self._networks:
                if not quantized_layers(detector):
                    return
                # Refused in the first step, not when its time has come.
                self._networks[True] = IntegerNetwork(detector, training=True)
            if _position(runner) < self.from_epoch:
                return
            _share_statistics(detector)
            self._trains = self._enter(runner, training=True)
            if not self._told:
                self._told = True
                runner.logger.info(
                    'trained on integers, as the program computes them'
                )
        # Their statistics are constants of the program, and loops set the
        # whole model to training as they please.
        for module in detector_of(runner.model).modules():
            if isinstance(module, _BatchNorm):
                module.eval()

    def after_train_epoch(self, runner: Runner) -> None:
        """Switch back, so that checkpoints and validation find all as is."""
        self._leave()

    def _leave(self) -> None:
        self._stack.close()
        self._trains = False

    def _enter(self, runner: Runner, training: bool) -> bool:
        detector = detector_of(runner.model)
        is_refused = self._refused and not training
        if is_refused or not quantized_layers(detector):
            return False
        try:
            if training not in self._networks:
                self._networks[training] = IntegerNetwork(detector, training)
            else:  # the weights may have become such that no program has them
                self._networks[training].fold()
            self._stack.enter_context(integer_aware(self._networks[training]))
        except UserError as error:
            if training:
                raise
            self._refused = True
            runner.logger.warning(f'evaluated in float: {error}')
            return False
        return True


def _share_statistics(detector: nn.Module) -> None:
    """Let the norms of all processes have the first one's statistics."""
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:
                    broadcast(statistic)


def _position(runner: Runner) -> int:
    """Return what `from_epoch` counts: epochs, or iterations where the loop
    has no epochs, from 1."""
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter + 1
    return runner.epoch + 1
