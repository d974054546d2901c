"""One line now and then on how the quantisers are doing."""

from statistics import median
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ..models.quantized_detector import detector_of, quantized_layers
from ..quantizers.quantizer import Quantizer
from ..registry import HOOKS


@HOOKS.register_module()
class QuantizerLogHook(Hook):
    """Logs clip values and the share of clipped inputs.

    After each epoch; in loops that count iterations, before each validation.
    The shares are those of the last batch, so that no other one pays for them.
    """

    def __init__(self) -> None:
        self._shares: dict[str, torch.Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Watch the inputs if a line is due after this batch."""
        if not _is_due(runner, batch_idx):
            return
        for name, quantizer in _input_quantizers(runner).items():

            def watch(
                module: Quantizer, args: tuple, name: str = name
            ) -> None:
                self._shares[name] = module.clipped_share(args[0])

            self._handles.append(quantizer.register_forward_pre_hook(watch))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Write the line if it is due."""
        if not _is_due(runner, batch_idx):
            return
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        inputs = _input_quantizers(runner)
        if not inputs:
            return
        layers = quantized_layers(detector_of(runner.model))
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


def _is_due(runner: Runner, batch_idx: int) -> bool:
    loop: Any = runner.train_loop
    if isinstance(loop, IterBasedTrainLoop):
        return (runner.iter + 1) % loop.val_interval == 0
    return batch_idx == len(runner.train_dataloader) - 1


def _input_quantizers(runner: Runner) -> dict[str, Quantizer]:
    return {
        name: layer.input_quantizer
        for name, layer in quantized_layers(detector_of(runner.model)).items()
        if isinstance(layer.input_quantizer, Quantizer)
    }


def _summary(what: str, quantizers: list[Quantizer]) -> str:
    clips = [q.clip.detach().abs().mean().item() for q in quantizers]
    return (
        f'{what} clip {min(clips):.3g} to {max(clips):.3g}, '
        f'median {median(clips):.3g}'
    )
