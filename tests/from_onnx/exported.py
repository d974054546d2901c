"""A small YOLOX of MMDetection, exported as YOLOX's authors export theirs."""

import warnings
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import Tensor, nn

SIDE = 64


class AsAuthors(nn.Module):
    """Of all pixels box codes, and sigmoids of objectness and classes."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> Tensor:
        logits, boxes, objectness = self.detector(image, mode='tensor')
        levels = [
            torch.cat((box, object_.sigmoid(), classes.sigmoid()), 1)
            for classes, box, object_ in zip(
                logits, boxes, objectness, strict=True
            )
        ]
        return torch.cat([x.flatten(2) for x in levels], 2).permute(0, 2, 1)


def small_yolox(
    depthwise: bool = True, depth: float = 0.33, classes: int = 3
) -> nn.Module:
    """A detector of few channels, whose norms have statistics."""
    register_all_modules(init_default_scope=False)
    cfg = Config.fromstring(
        "_base_ = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'", '.py'
    ).model
    blocks = max(round(3 * depth), 1)
    cfg.backbone.update(widen_factor=0.125, deepen_factor=depth)
    cfg.neck.update(
        in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=blocks
    )
    cfg.bbox_head.update(in_channels=32, feat_channels=32, num_classes=classes)
    for part in (cfg.backbone, cfg.neck, cfg.bbox_head):
        part.use_depthwise = depthwise
    torch.manual_seed(0)
    detector = MODELS.build(cfg).eval()
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.momentum = 1
    # Statistics of these pixels, so that no channel is dead.
    with torch.no_grad():
        detector.train()(torch.rand(4, 3, 128, 128) * 255, mode='tensor')
    return detector.eval()


def export(
    detector: nn.Module, path: Path, side: int = SIDE, batch: bool = False
) -> Path:
    """Write a detector by PyTorch's exporter that needs no further package.

    Args:
        detector: The detector.
        path: File to write.
        side: Of its square image.
        batch: Whether images of any number are taken, as by ``--dynamic``.
    """
    axes = {'images': {0: 'batch'}, 'output': {0: 'batch'}}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            AsAuthors(detector).eval(),
            (torch.zeros(1, 3, side, side),),
            str(path),
            input_names=['images'],
            output_names=['output'],
            dynamic_axes=axes if batch else None,
            opset_version=11,
            dynamo=False,
        )
    return path
