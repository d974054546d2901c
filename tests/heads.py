"""Heads of mmdet, what is compiled of them, and maps for them."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from aqd_mmdet.compiler.fold import Folded
from aqd_mmdet.compiler.heads import read_postprocess
from aqd_mmdet.models.heads import use_own_heads
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint

SCALES = (2.0**-12, 2.0**-14, 2.0**-13)


SIZE = (150, 157)


SIDES = (20, 10, 5, 3)


STRIDES = [8, 16, 32, 64]


CLASSES = 10


NMS = dict(type='nms', iou_threshold=0.5)


TEST = dict(
    nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=NMS, max_per_img=100
)


SQUARES = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=4,
    scales_per_octave=1,
    strides=STRIDES,
)


DELTAS = dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])


SMALL = dict(num_classes=CLASSES, in_channels=8)


@dataclass(frozen=True)
class Case:
    """A head, and what its maps may hold.

    Attributes:
        cfg: Of the head.
        kinds: For each output: channels, mean and deviation, and the least
            value.
        test: Changes of the test config.
        exponents: Whether the head gives the exponentials of its box codes.
    """

    cfg: dict
    kinds: list[tuple[int, float, float, float]]
    test: dict = field(default_factory=dict)
    exponents: bool = False


LOW = -np.inf


LOGITS = (CLASSES, -4, 1.5, LOW)


CASES = {
    'RetinaHead': Case(
        dict(
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=2,
                scales_per_octave=2,
                ratios=[1.0, 1.7],
                strides=STRIDES,
            )
        ),
        [(4 * CLASSES, -4, 1.5, LOW), (16, 0, 0.6, LOW)],
    ),
    'FCOSHead': Case(
        dict(strides=STRIDES, norm_cfg=None),
        [LOGITS, (4, 12, 9, 0), (1, 0, 2, LOW)],
    ),
    'FCOSHead of exponents': Case(
        dict(type='FCOSHead', strides=STRIDES, norm_cfg=None),
        [LOGITS, (4, 2.5, 0.7, LOW), (1, 0, 2, LOW)],
        exponents=True,
    ),
    'ATSSHead': Case(
        dict(
            anchor_generator=SQUARES,
            bbox_coder=DELTAS,
            loss_bbox=dict(type='GIoULoss'),
        ),
        [LOGITS, (4, 0, 3, LOW), (1, 0, 2, LOW)],
    ),
    'PAAHead': Case(
        dict(
            anchor_generator=SQUARES,
            bbox_coder=DELTAS,
            reg_decoded_bbox=True,
            loss_bbox=dict(type='GIoULoss'),
            score_voting=False,
        ),
        [LOGITS, (4, 0, 3, LOW), (1, 0, 2, LOW)],
        dict(max_per_img=10**5),
    ),
    'YOLOFHead': Case(
        dict(
            anchor_generator=dict(
                type='AnchorGenerator',
                ratios=[1.0],
                scales=[1, 2],
                strides=STRIDES,
            ),
            bbox_coder=dict(
                **DELTAS, add_ctr_clamp=True, ctr_clamp=12, clip_border=True
            ),
            reg_decoded_bbox=True,
            loss_bbox=dict(type='GIoULoss'),
        ),
        [(2 * CLASSES, -1, 1.5, LOW), (8, 0, 6, LOW), (2, -2, 2, LOW)],
    ),
    'GFLHead': Case(dict(anchor_generator=SQUARES), [LOGITS, (68, 0, 3, LOW)]),
    'FoveaHead': Case(
        dict(strides=STRIDES, base_edge_list=[16, 32, 64, 128]),
        [LOGITS, (4, 0, 0.6, LOW)],
    ),
    'AutoAssignHead': Case(
        dict(strides=STRIDES), [LOGITS, (4, 12, 9, 0), (1, 0, 2, LOW)]
    ),
    'CenterNetUpdateHead': Case(
        dict(strides=STRIDES), [LOGITS, (4, 12, 9, 0)]
    ),
    'FSAFHead': Case(
        dict(
            reg_decoded_bbox=True,
            anchor_generator=SQUARES,
            bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='IoULoss'),
        ),
        [LOGITS, (4, 0.1, 0.1, LOW)],
    ),
    'RTMDetHead': Case(
        dict(
            anchor_generator=dict(
                type='MlvlPointGenerator', offset=0, strides=STRIDES
            ),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_bbox=dict(type='GIoULoss'),
            with_objectness=False,
        ),
        [LOGITS, (4, 12, 9, LOW)],
    ),
    'YOLOXHead': Case(
        dict(strides=STRIDES),
        [(CLASSES, -1, 1.5, LOW), (4, 0, 0.6, LOW), (1, -2, 2, LOW)],
        # It takes no notice of the two numbers.
        dict(score_thr=0.01, nms_pre=10, max_per_img=30),
    ),
    'YOLOV3Head': Case(
        dict(
            in_channels=[8] * 4,
            out_channels=[8] * 4,
            featmap_strides=STRIDES,
            anchor_generator=dict(
                type='YOLOAnchorGenerator',
                base_sizes=[[(8, 12), (20, 9)]] * 4,
                strides=STRIDES,
            ),
        ),
        [(2 * (5 + CLASSES), -2, 1.5, LOW)],
        dict(conf_thr=0.005),
    ),
    'SSDHead': Case(
        dict(
            in_channels=[8] * 4,
            anchor_generator=dict(
                type='SSDAnchorGenerator',
                scale_major=False,
                input_size=160,
                min_sizes=[10, 30, 60, 100],
                max_sizes=[30, 60, 100, 150],
                strides=STRIDES,
                ratios=[[2], [2], [2], [2]],
            ),
            bbox_coder=DELTAS,
        ),
        [(4 * (CLASSES + 1), 0, 2, LOW), (16, 0, 2, LOW)],
        dict(score_thr=0.2),
    ),
}


def head_and_post_of(name: str):
    case = CASES[name]
    cfg = {**SMALL, 'type': name, **case.cfg}
    cfg['test_cfg'] = ConfigDict(**TEST | case.test)
    whole = Config(dict(model=dict(bbox_head=cfg)))
    use_own_heads(whole)
    head = MODELS.build(whole.model.bbox_head).eval()
    tensors = tuple(f'{i}' for i in range(4))
    channels = case.kinds[0][0]
    ops = [
        ir.Requantize(name, ('image',), channels, ir.INT32, None)
        for name in tensors
    ]
    program = ir.Program(
        tuple(ops),
        {},
        tuple(
            ir.Output(tensors, scale) for scale in SCALES[: len(case.kinds)]
        ),
        32,
    )
    folded = Folded(program, {}, boxes_are_exponents=case.exponents)
    program, post = read_postprocess(
        SimpleNamespace(bbox_head=head), folded, FixedPoint()
    )
    return head, post, program


def maps(name: str, seed: int):
    """Maps of a detector that sees a few objects, and their codes."""
    rng = np.random.default_rng(seed)
    return [
        [
            np.round(
                np.maximum(rng.normal(mean, deviation, (channels, s, s)), low)
                / scale
            ).astype(np.int32)
            for s in SIDES
        ]
        for (channels, mean, deviation, low), scale in zip(
            CASES[name].kinds, SCALES, strict=False
        )
    ]


def selected(program: ir.Program, codes):
    """Run what the head's way added to a program."""
    ops = {op.output: op for op in program.ops}

    def run(tensor: str, levels):
        if tensor.isdigit():
            return levels[int(tensor)].astype(np.int64)[None]
        op = ops[tensor]
        inputs = [run(x, levels) for x in op.inputs]
        return op.run(inputs, op.constants(program.weights))

    outputs = []
    for out in program.outputs:
        levels = codes[SCALES.index(out.scale)]
        outputs.append([run(x, levels)[0] for x in out.tensors])
    return outputs


def mmdets(name: str, head, codes):
    real = [
        [torch.from_numpy(x * scale).float()[None] for x in level]
        for level, scale in zip(codes, SCALES, strict=False)
    ]
    if CASES[name].exponents:
        real[1] = [x.exp() for x in real[1]]
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0))
    return head.predict_by_feat(*real, batch_img_metas=[meta], rescale=True)[0]
