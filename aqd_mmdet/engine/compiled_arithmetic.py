"""Fuses the arithmetic of quantisers for a training, by torch.compile."""

from contextlib import ExitStack

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..models.quantized_detector import detector_of, quantized_layers
from ..quantizers import native
from ..quantizers.arithmetic import compiled
from ..quantizers.fake_quantize import fake_quantize
from ..quantizers.grid import build_grid
from ..registry import HOOKS


@HOOKS.register_module()
class CompileQuantizersHook(Hook):
    """Compiles what quantisers compute in training on a GPU.

    On a CPU the package has compiled functions of its own; this hook works
    there where they are not built. PyTorch then needs a C++ compiler, or
    Triton on a GPU. Where it has none, a warning says so, and training is
    slower. What is trained is the same, up to the order of sums in the
    gradients of clip values.

    Args:
        min_steps: A training of fewer steps is not worth it: compiling takes
            up to half a minute.
    """

    def __init__(self, min_steps: int = 2000) -> None:
        self.min_steps = min_steps
        self._stack = ExitStack()

    def before_train(self, runner: Runner) -> None:
        """Compile, if the detector is quantised."""
        detector = detector_of(runner.model)
        if runner.max_iters < self.min_steps or not quantized_layers(detector):
            return
        device = next(detector.parameters()).device
        if device.type == 'cpu' and native.library() is not None:
            return
        runner.logger.info('compiling the arithmetic of quantisers')
        self._stack.enter_context(compiled())
        try:
            _try(device)
        except Exception as error:  # of many kinds
            self._stack.close()
            lines = str(error).strip().splitlines() or ['']
            runner.logger.warning(
                'torch.compile does not work here '
                f'({type(error).__name__}: {lines[0][:200]}): quantised '
                'training goes on without it, and is slower'
            )

    def after_train(self, runner: Runner) -> None:
        """Let quantisers run as they did before."""
        self._stack.close()


def _try(device: torch.device) -> None:
    """Raise if torch.compile does not work on a device."""
    x = torch.zeros(16, device=device, requires_grad=True)
    clip = torch.ones((), device=device, requires_grad=True)
    fake_quantize(x, clip, build_grid('unsigned', 2)).sum().backward()
