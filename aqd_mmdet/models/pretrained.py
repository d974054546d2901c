"""Starting from a backbone that was trained on normalised images."""

from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from ..registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class PretrainedRawImage:
    """Loads a checkpoint and folds the image's deviation into the stem.

    Our detectors read raw pixels minus an integer mean (AQD's stem sees the
    8-bit image), but ImageNet's checkpoints expect them divided by a
    standard deviation per channel. The division moves into the stem's
    weights, once, here. As ``init_cfg`` of a backbone, or of a detector.

    Args:
        checkpoint: Path, URL or mmengine's alias of a checkpoint.
        stem: Name of the first convolution inside the module.
        std: Standard deviation of each image channel in pixel units, in the
            order that the checkpoint reads the channels.
        prefix: Prefix of the checkpoint's names that is dropped.
    """

    def __init__(
        self,
        checkpoint: str,
        stem: str = 'conv1',
        std: Sequence[float] = (58.395, 57.12, 57.375),
        prefix: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.stem = stem
        self.std = std
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a module and scale its stem."""
        drop = [(rf'^{self.prefix}\.', '')] if self.prefix else [('^$', '')]
        load_checkpoint(
            module, self.checkpoint, map_location='cpu', revise_keys=drop
        )
        weight = module.get_parameter(f'{self.stem}.weight')
        with torch.no_grad():
            weight.div_(weight.new_tensor(self.std)[:, None, None])
        print_log(
            f'the stem {self.stem} now reads raw pixels: its weights were '
            f'divided by {tuple(self.std)}',
            logger='current',
        )
