"""Starting from a backbone that was trained on normalised images."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from ..quantizers.quantizer import Quantizer
from ..registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class PretrainedRawImage:
    """Loads a checkpoint and folds the image's deviation into the stem.

    Our detectors read raw pixels minus an integer mean (AQD's stem sees the
    8-bit image), but ImageNet's checkpoints expect them divided by a
    standard deviation per channel. The division moves into the stem and the
    norm behind it, once, here. As ``init_cfg`` of a backbone, or of a
    detector.

    What channels have in common goes into the statistics of the norm. In the
    weights it would make them some 57 times smaller and their gradients as
    much larger: a step of SGD would move them 3300 times as far, relative to
    their size, away from what was pretrained.

    Args:
        checkpoint: Path, URL or mmengine's alias of a checkpoint.
        stem: Name of the first convolution inside the module.
        norm: Name of the batch norm behind it.
        std: Standard deviation of each image channel in pixel units, in the
            order that the checkpoint reads the channels.
        prefix: Prefix of the checkpoint's names that is dropped, with or
            without its last dot.

    Raises:
        UserError: If the module has no such layers, or the checkpoint is of
            another module.
    """

    def __init__(
        self,
        checkpoint: str,
        stem: str = 'conv1',
        norm: str = 'bn1',
        std: Sequence[float] = (58.395, 57.12, 57.375),
        prefix: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.stem = stem
        self.norm = norm
        self.std = std
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a module and scale its stem."""
        prefix = f'{self.prefix.rstrip(".")}.' if self.prefix else ''
        loaded = load_checkpoint(
            module,
            self.checkpoint,
            map_location='cpu',
            revise_keys=[(f'^{re.escape(prefix)}', '')],
        )
        state = loaded.get('state_dict', loaded)
        self._check_names(
            module, {n.removeprefix(prefix): x for n, x in state.items()}
        )
        layers = dict(module.named_modules())
        conv, norm = layers.get(self.stem), layers.get(self.norm)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, _BatchNorm):
            raise UserError(
                f'PretrainedRawImage: {type(module).__name__} has no '
                f'convolution {self.stem!r} with a batch norm {self.norm!r} '
                'behind it: give their names as `stem` and `norm`'
            )
        _read_raw_pixels(conv, norm, conv.weight.new_tensor(self.std))
        print_log(
            f'the stem {self.stem} and {self.norm} now read raw pixels, of '
            f'deviations {tuple(self.std)}',
            logger='current',
        )

    def _check_names(
        self, module: nn.Module, state: Mapping[str, Any]
    ) -> None:
        """Raise if mmengine did not load all of a module, which it does not
        tell but in a warning of many lines."""
        calibrated = tuple(
            f'{name}.'
            for name, child in module.named_modules()
            if isinstance(child, Quantizer)
        )
        others = [
            name
            for name, tensor in module.state_dict().items()
            if not name.startswith(calibrated)
            # Old checkpoints do not have it, and nothing reads it.
            and not name.endswith('num_batches_tracked')
            # The outputs of a detector may be for other classes.
            and (
                name not in state or state[name].shape[1:] != tensor.shape[1:]
            )
        ]
        if others:
            raise UserError(
                f'PretrainedRawImage: checkpoint {self.checkpoint} with '
                f'prefix={self.prefix!r} lacks {len(others)} of the names of '
                f'{type(module).__name__}, or has them in another shape, such '
                f'as {", ".join(others[:3])}; its names are like '
                f'{", ".join(list(state)[:2])}'
            )


@torch.no_grad()
def _read_raw_pixels(conv: nn.Conv2d, norm: Any, std: Tensor) -> None:
    """Let a stem and its norm give what they gave for pixels / std.

    Args:
        conv: The stem.
        norm: The batch norm behind it.
        std: Of each channel, (C,).
    """
    scale = std.square().mean().sqrt()
    conv.weight.mul_((scale / std)[:, None, None])
    if conv.bias is not None:
        conv.bias.mul_(scale)
    norm.running_mean.mul_(scale)
    # The norm adds its eps to what is larger now.
    square = scale.square()
    norm.running_var.mul_(square).add_(norm.eps * (square - 1))
