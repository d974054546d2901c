"""Batch norms that are given one value per channel."""

import logging
from math import prod

from mmengine.logging import print_log
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_WAS_TRAINING = '_aqd_was_training'
_WAS_TOLD = '_aqd_was_told'


def guard_batch_norms(model: nn.Module) -> None:
    """Let a model's batch norms take a batch that has no statistics.

    One small picture, such as a last batch may hold, has a single pixel on a
    pyramid's coarsest level, and PyTorch stops the training there. One value
    has no variance, so that the norm uses its running statistics for that
    batch, and leaves them as they are.

    Args:
        model: Any model. SyncBN's are left alone: their batch is that of all
            processes, which must take the same path.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(
            module, nn.SyncBatchNorm
        ):
            module.register_forward_pre_hook(_before)
            module.register_forward_hook(_after)


def _before(norm: nn.Module, args: tuple) -> None:
    # `training` first: where graphs are captured it is False, and sizes are
    # symbols.
    if not norm.training:
        return
    shape = args[0].shape
    if shape[0] * prod(shape[2:]) != 1:
        return
    norm.training = False
    setattr(norm, _WAS_TRAINING, True)
    if not getattr(norm, _WAS_TOLD, False):
        setattr(norm, _WAS_TOLD, True)
        print_log(
            'a batch norm was given one value per channel, of which there are '
            'no statistics: it uses its running ones. If that happens in all '
            'batches, take larger batches or pictures',
            logger='current',
            level=logging.WARNING,
        )


def _after(norm: nn.Module, args: tuple, output: object) -> None:
    if vars(norm).pop(_WAS_TRAINING, False):
        norm.training = True
