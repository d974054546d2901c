"""A float detector of two stages of convolutions, as small as one can be."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class SmallDetector(nn.Module):
    """A stem, a depthwise convolution and a head, with mmdet's names.

    Args:
        focus: Whether the stem reads slices of the image side by side.
    """

    def __init__(self, focus: bool = False) -> None:
        super().__init__()
        self.focus = focus
        self.stem = nn.Conv2d(12 if focus else 3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.SiLU()
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.relu = nn.ReLU()
        self.bbox_head = Head()
        self.data_preprocessor = SimpleNamespace(
            _enable_normalize=True,
            pad_value=0,
            mean=torch.tensor([123.7, 116.3, 103.5]).view(3, 1, 1),
            std=torch.tensor([58.0, 57.0, 57.4]).view(3, 1, 1),
        )
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def extract_feat(self, x: Tensor) -> tuple[Tensor]:
        if self.focus:
            rows = (x[..., ::2, :], x[..., 1::2, :])
            x = torch.cat([r[..., i::2] for r in rows for i in (0, 1)], 1)
        x = self.act(self.norm(self.stem(x)))
        return (self.relu(self.depthwise(x)),)

    def forward(
        self, x: Tensor, samples: Any = None, mode: str = 'tensor'
    ) -> Any:
        return self.bbox_head(self.extract_feat(x))


class Head(nn.Module):
    """One dense output of each level."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Conv2d(8, 4, 1)

    def forward(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [self.output(x) for x in features]


def small(focus: bool = False) -> Any:
    """A detector of random weights, the same in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SmallDetector(focus).eval()


def pictures(count: int, side: int = 32) -> list[Tensor]:
    """Pixels minus a mean, float (1, 3, side, side)."""
    generator = torch.Generator().manual_seed(1)
    shape = (1, 3, side, side)
    return [
        torch.randint(-120, 136, shape, generator=generator).float()
        for _ in range(count)
    ]
