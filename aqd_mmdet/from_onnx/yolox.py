"""YOLOX as its authors export it: a walk from its output to the image.

Modules have MMDetection's names. The file's batch norms are part of its
convolutions, and its output has, for each pixel of all pyramid levels, the
codes of a box, the sigmoid of the objectness and those of the classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .graph import Graph, Node
from .walk import Walk

STRIDES = (8, 16, 32)
POOLINGS = (5, 9, 13)
HEAD = 'bbox_head.multi_level'
KINDS = ('conv_cls', 'conv_reg', 'conv_obj')
# Channels of the stem where the widths are not scaled.
STEM_CHANNELS = 64
# Blocks of the middle stages where the depths are not scaled.
MOST_BLOCKS = 9


@dataclass(frozen=True)
class Yolox:
    """A YOLOX of a file.

    Attributes:
        widen_factor: Of the channels.
        deepen_factor: Of the number of blocks.
        neck_blocks: Blocks of a layer of the neck.
        depthwise: Whether its 3 x 3 convolutions are depthwise separable.
        classes: Number of classes.
        maps: Tensors of the head's outputs in the order in which
            MMDetection's head returns them: logits, box codes and objectness,
            each of all pyramid levels, the finest first.
        weights: Float32 arrays by the names of the state dict.
    """

    widen_factor: float
    deepen_factor: float
    neck_blocks: int
    depthwise: bool
    classes: int
    maps: tuple[str, ...]
    weights: Mapping[str, np.ndarray]


def read_yolox(graph: Graph) -> Yolox:
    """Read a file, all of it.

    Args:
        graph: The graph of the file.

    Raises:
        UserError: Naming the first thing that is not as in YOLOX.
    """
    walk = Walk(graph)
    maps, stems, rows = _head(walk)
    pyramid = [
        walk.conv(stem, f'neck.out_convs.{level}', 1)
        for level, stem in enumerate(stems)
    ]
    stages, neck_blocks = _neck(walk, pyramid)
    blocks = _backbone(walk, stages)
    # Last, since unless they are constants, they follow from all sizes.
    _check_rows(walk, rows)
    graph.finish()
    return Yolox(
        widen_factor=len(walk.weights['backbone.stem.conv.conv.bias'])
        / STEM_CHANNELS,
        # As it is usually written; the number of blocks is rounded.
        deepen_factor=round(blocks / MOST_BLOCKS, 2),
        neck_blocks=neck_blocks,
        depthwise=bool(walk.depthwise),
        classes=len(walk.weights['bbox_head.multi_level_conv_cls.0.bias']),
        maps=maps,
        weights=walk.weights,
    )


def _head(walk: Walk) -> tuple[tuple[str, ...], list[str], list[Node]]:
    """Go through the head.

    Returns:
        tuple: The maps as in :class:`Yolox`, what each level has read, and
        the Reshape of each.
    """
    name = 'the output, maps of boxes that are not decoded'
    y = walk.transposition(walk.graph.output, name, 0, 2, 1)
    levels = walk.concatenation(y, name, len(STRIDES), axis=2)
    maps, inputs, rows = [], [], []
    for level, y in enumerate(levels):
        where = f'{name}, pyramid level {level}'
        rows.append(walk.flattening(y, where))
        parts = walk.concatenation(rows[-1].inputs[0], where, 3)
        boxes, objectness, classes = parts
        objectness = walk.sigmoid(objectness, where)
        logits = walk.sigmoid(classes, where)
        maps.append((logits, boxes, objectness))
        inputs.append(_head_level(walk, level, *maps[-1]))
    ordered = tuple(x for kind in zip(*maps, strict=True) for x in kind)
    return ordered, inputs, rows


def _check_rows(walk: Walk, rows: list[Node]) -> None:
    """Check that the pixels of each map are put in a row."""
    height, width = walk.graph.sides
    for level, (node, stride) in enumerate(zip(rows, STRIDES, strict=True)):
        biases = (walk.weights[f'{HEAD}_{x}.{level}.bias'] for x in KINDS)
        pixels = (height // stride) * (width // stride)
        walk.check_row(node, sum(map(len, biases)), pixels)


def _head_level(
    walk: Walk, level: int, logits: str, boxes: str, objectness: str
) -> str:
    """Go through the head of a pyramid level."""
    classes = walk.convolution(logits, f'{HEAD}_conv_cls.{level}', 1)
    box = walk.convolution(boxes, f'{HEAD}_conv_reg.{level}', 1)
    object_ = walk.convolution(objectness, f'{HEAD}_conv_obj.{level}', 1)
    box = walk.need_same(box, object_, f'{HEAD}_conv_obj.{level}')
    for number in (1, 0):
        box = walk.block(box, f'{HEAD}_reg_convs.{level}.{number}')
        classes = walk.block(classes, f'{HEAD}_cls_convs.{level}.{number}')
    return walk.need_same(box, classes, f'{HEAD}_cls_convs.{level}')


def _neck(walk: Walk, pyramid: list[str]) -> tuple[list[str], int]:
    """Go through the neck, YOLOXPAFPN.

    Args:
        walk: The walk.
        pyramid: What it has made, the finest level first.

    Returns:
        tuple: What it has read, the finest first, and the number of blocks of
        a layer.
    """
    fine, middle, coarse = pyramid
    y, blocks = walk.csp(coarse, 'neck.bottom_up_blocks.1', False)
    down, top = walk.concatenation(y, 'neck.bottom_up_blocks.1', 2)
    down = walk.block(down, 'neck.downsamples.1', 2)
    walk.need_same(down, middle, 'neck.downsamples.1')
    y, _ = walk.csp(middle, 'neck.bottom_up_blocks.0', False)
    down, inner = walk.concatenation(y, 'neck.bottom_up_blocks.0', 2)
    down = walk.block(down, 'neck.downsamples.0', 2)
    walk.need_same(down, fine, 'neck.downsamples.0')
    y, _ = walk.csp(fine, 'neck.top_down_blocks.1', False)
    up, third = walk.concatenation(y, 'neck.top_down_blocks.1', 2)
    up = walk.upsampling(up, 'neck.upsample')
    walk.need_same(up, inner, 'neck.upsample')
    y = walk.conv(inner, 'neck.reduce_layers.1', 1)
    y, _ = walk.csp(y, 'neck.top_down_blocks.0', False)
    up, fourth = walk.concatenation(y, 'neck.top_down_blocks.0', 2)
    up = walk.upsampling(up, 'neck.upsample')
    walk.need_same(up, top, 'neck.upsample')
    fifth = walk.conv(top, 'neck.reduce_layers.0', 1)
    return [third, fourth, fifth], blocks


def _backbone(walk: Walk, stages: list[str]) -> int:
    """Go through the backbone, CSPDarknet.

    Args:
        walk: The walk.
        stages: What it has made, the finest map first.

    Returns:
        int: Number of blocks of its middle stages.
    """
    third, fourth, fifth = stages
    y, _ = walk.csp(fifth, 'backbone.stage4.2', False)
    y = _pyramid_pooling(walk, y, 'backbone.stage4.1')
    y = walk.block(y, 'backbone.stage4.0', 2)
    walk.need_same(y, fourth, 'backbone.stage4.0')
    y, _ = walk.csp(fourth, 'backbone.stage3.1', True)
    y = walk.block(y, 'backbone.stage3.0', 2)
    walk.need_same(y, third, 'backbone.stage3.0')
    y, blocks = walk.csp(third, 'backbone.stage2.1', True)
    y = walk.block(y, 'backbone.stage2.0', 2)
    y, _ = walk.csp(y, 'backbone.stage1.1', True)
    y = walk.block(y, 'backbone.stage1.0', 2)
    y = walk.conv(y, 'backbone.stem.conv', 3)
    image = walk.focus(y, 'backbone.stem')
    walk.need_same(image, walk.graph.image, 'backbone.stem')
    return blocks


def _pyramid_pooling(walk: Walk, y: str, name: str) -> str:
    """Go through maxima of windows of three sizes, side by side."""
    y = walk.conv(y, f'{name}.conv2', 1)
    x, *pooled = walk.concatenation(y, name, 1 + len(POOLINGS))
    for each, kernel in zip(pooled, POOLINGS, strict=True):
        walk.need_same(x, walk.pooling(each, name, kernel), name)
    return walk.conv(x, f'{name}.conv1', 1)
