"""Norms that are private to a pyramid level, in towers that are shared.

AQD, section 3.4: the detection head's convolutions are shared by all levels
of the feature pyramid, but the levels' statistics differ, and a quantised
network cannot absorb that. Each level gets a norm of its own, statistics and
affine parameters alike.

Which level a tensor belongs to is a tag on the tensor itself, set where the
pyramid is made and handed on from module to module; calls are not counted. So
a head may be given some of the levels only, in any order, or run a layer
twice (checkpointing), and the right norm is used; where the tag was lost,
there is an error instead of a guess.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ..errors import UserError
from ..registry import MODELS

_TAG = 'aqd_pyramid_level'


@dataclass(frozen=True)
class NormOptions:
    """A norm for each level of the pyramid; see MultiLevelBN.

    ``num_levels`` that is None is the number of feature maps that the head
    is called with.
    """

    num_levels: int | None = None


@MODELS.register_module()
class MultiLevelBN(nn.Module):
    """One norm per level of the feature pyramid.

    The checkpoint of a detector with one shared norm loads into it: each
    level starts from the shared parameters and statistics.

    Args:
        num_features: Number of channels.
        num_levels: Number of pyramid levels.
        norm_cfg: The norm of one level, any that mmcv can build.
        **kwargs: Arguments of that norm; mmcv passes ``eps`` here.
    """

    # The name that mmcv gives a BN in a ConvModule.
    _abbr_ = 'bn'

    def __init__(
        self,
        num_features: int,
        num_levels: int = 5,
        norm_cfg: Mapping = MappingProxyType({'type': 'BN'}),
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if type(num_levels) is not int or num_levels < 1:
            raise UserError(
                f'num_levels={num_levels!r} of MultiLevelBN: give '
                'the number of levels of the feature pyramid'
            )
        cfg = {**kwargs, **norm_cfg}
        self.norms = nn.ModuleList(
            build_norm_layer(cfg, num_features)[1] for _ in range(num_levels)
        )

    @classmethod
    def from_norm(cls, norm: nn.Module, num_levels: int) -> 'MultiLevelBN':
        """Return per-level copies of a norm, which it replaces.

        Args:
            norm: The shared norm; its parameters are copied to each level.
            num_levels: Number of pyramid levels.
        """
        layer = cls(1, num_levels)
        layer.norms = nn.ModuleList(deepcopy(norm) for _ in range(num_levels))
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, H, W) with the norm of its level."""
        level = getattr(x, _TAG, None)
        if level is None:
            raise UserError(
                'MultiLevelBN got a tensor of unknown pyramid level: build '
                "the detector by type='aqd_mmdet.QuantizedDetector' (an empty "
                'recipe will do), and let the norm read a feature map of the '
                "pyramid or another module's output"
            )
        if level >= len(self.norms):
            raise UserError(
                f'MultiLevelBN has {len(self.norms)} levels and got a feature '
                f'map of level {level}: give num_levels={level + 1} or more'
            )
        return self.norms[level](x)

    def expand_shared(self, state_dict: dict, prefix: str) -> dict:
        """Return a state dict in which each level has the shared norm's.

        Args:
            state_dict: Of a detector whose norm in this place is shared;
                any other comes back as it is.
            prefix: This module's name and a dot.
        """
        expanded = dict(state_dict)
        for name in self.norms[0].state_dict():
            if prefix + name in state_dict:
                shared = expanded.pop(prefix + name)
                for level in range(len(self.norms)):
                    expanded[f'{prefix}norms.{level}.{name}'] = shared
        return expanded

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        expanded = self.expand_shared(state_dict, prefix)
        # In place: PyTorch looks for names that nobody took in this dict.
        state_dict.clear()
        state_dict.update(expanded)
        super()._load_from_state_dict(state_dict, prefix, *args)


def tag_levels(features: Iterable[Tensor]) -> None:
    """Mark each feature map with its position in the pyramid.

    Args:
        features: Feature maps from the finest level to the coarsest.
    """
    for level, feature in enumerate(features):
        setattr(feature, _TAG, level)


def _tag_outputs(module: nn.Module, args: tuple, output: Any) -> None:
    if isinstance(output, (tuple, list)):
        tag_levels(output)


def _tag_unknown_inputs(module: nn.Module, args: tuple) -> None:
    for arg in args:
        is_pyramid = isinstance(arg, (tuple, list))
        if is_pyramid and not any(hasattr(x, _TAG) for x in arg):
            tag_levels(arg)


def hand_on_level(module: nn.Module, args: tuple, output: Any) -> None:
    """Give an output the level of the input: a forward hook."""
    level = getattr(args[0], _TAG, None) if args else None
    if level is not None and isinstance(output, Tensor):
        setattr(output, _TAG, level)


def track_levels(
    pyramid: nn.Module | None, heads: Sequence[nn.Module]
) -> None:
    """Make the layers of heads know their pyramid level.

    The hooks are plain functions of the module that they are called with, so
    a deep copy of the detector tracks its own levels.

    Args:
        pyramid: The module whose outputs are the levels; without one, the
            features that a head is given are counted.
        heads: Modules that are called with the levels and hold MultiLevelBN.
    """
    if pyramid is not None:
        pyramid.register_forward_hook(_tag_outputs)
    for head in heads:
        head.register_forward_pre_hook(_tag_unknown_inputs)
        for module in head.modules():
            module.register_forward_hook(hand_on_level)
