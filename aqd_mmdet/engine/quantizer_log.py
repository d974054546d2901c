"""One line per epoch on how the quantisers are doing."""

from statistics import median
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..models.quantized_detector import quantized_layers
from ..quantizers.quantizer import Quantizer
from ..registry import HOOKS


@HOOKS.register_module()
class QuantizerLogHook(Hook):
    """Logs clip values and the share of clipped inputs after each epoch.

    The shares are those of the epoch's last batch, so that no other batch
    pays for them.
    """

    def __init__(self) -> None:
        self._shares: dict[str, torch.Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Watch the inputs if this is the last batch of the epoch."""
        if batch_idx != len(runner.train_dataloader) - 1:
            return
        for name, quantizer in _input_quantizers(runner).items():

            def watch(
                module: Quantizer, args: tuple, name: str = name
            ) -> None:
                self._shares[name] = module.clipped_share(args[0])

            self._handles.append(quantizer.register_forward_pre_hook(watch))

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the line."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        inputs = _input_quantizers(runner)
        if not inputs:
            return
        layers = quantized_layers(_detector(runner))
        line = (
            f'quantisers: {_summary("input", list(inputs.values()))}; '
            + _summary('weight', [m.weight_quantizer for m in layers.values()])
        )
        if self._shares:
            shares = {n: s.item() for n, s in self._shares.items()}
            worst = max(shares, key=shares.__getitem__)
            line += (
                f'; inputs clipped: median {median(shares.values()):.2%}'
                f', most {shares[worst]:.2%} in {worst}'
            )
        runner.logger.info(line)


def _detector(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _input_quantizers(runner: Runner) -> dict[str, Quantizer]:
    return {
        name: layer.input_quantizer
        for name, layer in quantized_layers(_detector(runner)).items()
        if isinstance(layer.input_quantizer, Quantizer)
    }


def _summary(what: str, quantizers: list[Quantizer]) -> str:
    clips = [q.clip.detach().abs().mean().item() for q in quantizers]
    return (
        f'{what} clip {min(clips):.3g} to {max(clips):.3g}, '
        f'median {median(clips):.3g}'
    )
