"""Two-stage detectors, from a recipe to boxes on integers."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.compiler import verify
from aqd_mmdet.compiler.compile import Compilation, compile_detector
from aqd_mmdet.compiler.regions import capture_regions
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import QuantLinear, QuantRoIExtractor
from aqd_mmdet.models.integer_aware import IntegerNetwork, integer_aware
from aqd_mmdet.program import file
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import Detector, reference
from tests.factories import CONFIGS

SIDE = 128


def narrow(name: str, bits: int = 2) -> Config:
    """A config of configs/mix/, with few channels."""
    cfg = Config.fromfile(CONFIGS / f'mix/{name}_r50_fpn_aqd-w4a4_1x_coco.py')
    model = cfg.model
    model.bits = bits
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=8)
    model.rpn_head.update(in_channels=8, feat_channels=8)
    # Proposals of other scales than scores that are all alike.
    model.test_cfg.rpn.update(nms_pre=100, max_per_img=50)
    model.test_cfg.rcnn.score_thr = 0.01
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=8, fc_out_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 8
    if 'mask_head' in model.roi_head:
        model.roi_head.mask_head.update(in_channels=8, conv_out_channels=8)
        model.roi_head.mask_roi_extractor.out_channels = 8
    return cfg


def calibrated(cfg: Config) -> nn.Module:
    model = MODELS.build(cfg.model)
    data = demo_mm_inputs(2, [(3, SIDE, SIDE)] * 2, num_classes=3)
    calibrate(model, [model.data_preprocessor(data, True)], mse_clip)
    return model.eval()


def compiled(model: nn.Module, cfg: Config) -> Compilation:
    return compile_detector(model, cfg, lambda text: None)


@cache
def compilation_of(name: str, bits: int = 2) -> Compilation:
    """A detector that several tests read and none changes."""
    cfg = narrow(name, bits)
    return compiled(calibrated(cfg), cfg)


NAMES = ('faster-rcnn', 'cascade-rcnn', 'mask-rcnn')


@pytest.mark.parametrize('name', NAMES)
def test_regions_are_quantised_and_masks_are_not(name):
    model = MODELS.build(narrow(name).model)
    readers = [
        n for n, m in model.named_modules() if isinstance(m, QuantRoIExtractor)
    ]
    assert all(n.startswith('roi_head.bbox_roi_extractor') for n in readers)
    assert len(readers) == (3 if name == 'cascade-rcnn' else 1)
    layers = dict(model.named_modules())
    for layer, module in layers.items():
        if layer.endswith('shared_fcs.0'):
            assert isinstance(module, QuantLinear)
            assert module.input_quantizer.grid.bits == 2
        if layer.endswith(('fc_cls', 'fc_reg')):
            assert module.input_quantizer.grid.bits == 8
        if layer.startswith('roi_head.mask_'):
            assert not isinstance(module, (QuantLinear, QuantRoIExtractor))


@pytest.mark.parametrize(
    'name',
    [
        'faster-rcnn',
        pytest.param('cascade-rcnn', marks=pytest.mark.slow),
        pytest.param('mask-rcnn', marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize('bits', [2, 8])
def test_the_mode_finds_what_the_program_finds(name, bits):
    compilation = compilation_of(name, bits)
    model = compilation.trace.detector
    rng = np.random.default_rng(0)
    # As large as the pipeline makes it, so that nothing is resized.
    program = replace(
        compilation.compiled,
        preprocess=replace(
            compilation.compiled.preprocess, short=96, long=SIDE
        ),
    )
    program = file.from_bytes(file.to_bytes(program))
    image = rng.integers(0, 256, (96, SIDE, 3), np.uint8)
    found = Detector(program)(image)
    in_python = Detector(program, run=reference.run)(image)
    for values, wanted in zip(found, in_python, strict=True):
        assert np.array_equal(values, wanted)
    data = dict(
        inputs=[torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)],
        data_samples=demo_mm_inputs(1, [(3, 96, SIDE)])['data_samples'],
    )
    data['data_samples'][0].set_metainfo(
        dict(
            img_shape=(96, SIDE), ori_shape=(96, SIDE), scale_factor=(1.0, 1.0)
        )
    )
    with integer_aware(IntegerNetwork(model)), torch.no_grad():
        (expected,) = model.test_step(data)
    boxes = expected.pred_instances
    assert len(found.boxes) > 0
    # Proposals are rounded to 256ths, which may move codes of regions.
    apart = np.abs(
        found.boxes[:, None] / 256 - boxes.bboxes.numpy()[None]
    ).max(2)
    assert (apart.min(1) <= 1 / 4).mean() > 0.9


@pytest.mark.parametrize('name', NAMES[:2])
def test_regions_are_those_of_the_simulation(name):
    compilation = compilation_of(name)
    agreements = verify.new_agreements()
    pixels = torch.randint(0, 256, (1, 3, 96, SIDE)).to(torch.uint8)
    verify.compare_regions(compilation, pixels, (96, SIDE), agreements)
    layers = [x for n, x in agreements.items() if n.startswith('roi_head.')]
    # Two shared layers and two outputs that read one tensor, per stage.
    assert len(layers) == 3 * len(compilation.regions)
    for found in layers:
        assert found.worst_per_layer <= 1
        assert found.equal_per_layer >= 0.9999 * found.count


@pytest.mark.parametrize('name', NAMES[:2])
def test_regions_of_the_mode_are_the_programs(name):
    cfg = narrow(name)
    network = IntegerNetwork(calibrated(cfg))
    stages = network.regions.regions.stages
    maps = [torch.rand(1, 8, SIDE // s, SIDE // s) for s in (4, 8, 16, 32)]
    rois = torch.tensor([[0, 3.1, 4.2, 60.3, 70.4], [0, 0, 0, 9.9, 128]])
    for number, stage in enumerate(stages):
        step = network.regions.extractors[number].input_quantizer.step
        rounded = [(m / step).floor() * step for m in maps]
        values = network.regions.align(number, rounded, rois)
        expected = reference.run(stage.program, values.numpy())
        found = network.regions.maps(number, values)
        for out, real in zip(stage.program.outputs, found, strict=True):
            codes = (real.double() / out.scale).round().numpy()
            assert np.array_equal(codes, expected[out.tensors[0]][:, :, 0, 0])


def test_the_detector_is_itself_again_afterwards():
    model = calibrated(narrow('faster-rcnn'))
    with integer_aware(IntegerNetwork(model)):
        pass
    for module in model.modules():
        assert not {'forward', 'extract_feat'} & set(vars(module))


def test_masks_are_said_to_stay_float():
    cfg, lines = narrow('mask-rcnn'), []
    compile_detector(calibrated(cfg), cfg, lines.append)
    assert any('mask_head stays float' in text for text in lines)


def test_training_on_integers_is_refused():
    model = calibrated(narrow('faster-rcnn'))
    with pytest.raises(UserError, match='from_epoch'):
        IntegerNetwork(model, training=True)


def test_regions_that_stay_float_are_named():
    cfg = narrow('faster-rcnn')
    cfg.model.recipe = [
        rule for rule in cfg.model.recipe if 'pool' not in rule
    ]
    model = calibrated(cfg)
    with pytest.raises(UserError, match='bbox_roi_extractor.* stays float'):
        compiled(model, cfg)


def test_other_ways_of_a_second_stage_are_named():
    cfg = narrow('faster-rcnn')
    model = calibrated(cfg)
    model.roi_head.bbox_head.bbox_coder.add_ctr_clamp = True
    with pytest.raises(UserError, match='add_ctr_clamp'):
        compiled(model, cfg)


def test_what_is_added_to_regions_is_named():
    cfg = narrow('faster-rcnn')
    model = calibrated(cfg)
    model.roi_head.shared_head = nn.ReLU()
    with pytest.raises(UserError, match=r'roi_head\.shared_head \(ReLU\)'):
        compiled(model, cfg)


def test_a_second_stage_that_reads_more_is_named():
    cfg = narrow('cascade-rcnn')
    cfg.model.roi_head.update(
        type='HybridTaskCascadeRoIHead',
        semantic_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=8,
            featmap_strides=[8],
        ),
        semantic_head=dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            num_convs=1,
            in_channels=8,
            conv_out_channels=8,
            num_classes=5,
        ),
    )
    model = MODELS.build(cfg.model)
    with pytest.raises(UserError, match='as HybridTaskCascadeRoIHead does'):
        capture_regions(model)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(features=0), 'strides: expected one of each of the 5 maps'),
        (dict(features=9), 'features: expected an index of the'),
        (dict(strides=(4, 8, 16)), 'strides: expected one of each'),
        (dict(bins=6), 'expected 1 to 65536, found 0'),
        (dict(samples=-1), 'samples: expected 0 to 64, found -1'),
    ],
)
def test_files_with_another_second_stage_are_refused(change, message):
    detector = compilation_of('faster-rcnn').compiled
    (stage,) = detector.regions.stages
    changed = replace(detector.regions, stages=(replace(stage, **change),))
    content = file.to_bytes(replace(detector, regions=changed))
    with pytest.raises(UserError, match=message):
        file.from_bytes(content)
