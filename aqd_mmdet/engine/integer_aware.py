"""Validation on integers, and training on them in the last epochs."""

from contextlib import ExitStack

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from ..integer.compile import fixed_point_of
from ..models.integer_aware import IntegerNetwork, integer_aware
from ..models.quantized_detector import quantized_layers
from ..quantizers.quantizer import Quantizer
from ..registry import HOOKS


@HOOKS.register_module()
class IntegerAwareHook(Hook):
    """Runs a quantised detector's network as its integer program.

    In every validation and test, so that the AP that is reported is the
    program's; and in training from the epoch that the recipe's integer side
    names (``aware_from``), with the norms' statistics frozen, since they are
    constants of the program. A detector that is not quantised, or of which
    parts stay float, is validated in float; the log says why.
    """

    def __init__(self) -> None:
        # For boxes and for losses.
        self._networks: dict[bool, IntegerNetwork] = {}
        self._stack = ExitStack()
        self._refused = False

    def before_val_epoch(self, runner: Runner) -> None:
        """Switch to integers."""
        self._enter(runner, training=False)

    def after_val_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        """Switch back."""
        self._stack.close()

    before_test_epoch = before_val_epoch
    after_test_epoch = after_val_epoch

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch to integers if their epoch has come."""
        aware_from = fixed_point_of(_detector(runner)).aware_from
        if aware_from is None or runner.epoch + 1 < aware_from:
            return
        if self._enter(runner, training=True):
            for module in _detector(runner).modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def after_train_epoch(self, runner: Runner) -> None:
        """Switch back, so that checkpoints and validation find all as is."""
        self._stack.close()

    def _enter(self, runner: Runner, training: bool) -> bool:
        detector = _detector(runner)
        quantizers = [
            m for m in detector.modules() if isinstance(m, Quantizer)
        ]
        started = all(bool(q.started) for q in quantizers)
        if self._refused or not quantized_layers(detector) or not started:
            return False
        try:
            if training not in self._networks:
                self._networks[training] = IntegerNetwork(detector, training)
            self._stack.enter_context(integer_aware(self._networks[training]))
        except UserError as error:
            if training:
                raise
            self._refused = True
            runner.logger.warning(f'evaluated in float: {error}')
            return False
        what = 'trained' if training else 'evaluated'
        runner.logger.info(f'{what} on integers, as the program computes them')
        return True


def _detector(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
