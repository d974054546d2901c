import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from mmengine import load
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.layers import QuantAdd, QuantConv2d
from aqd_mmdet.models.quantized_detector import quantized_layers
from aqd_mmdet.quantizers.quantizer import ImageQuantizer
from aqd_mmdet.study.plan import Study, read_study
from tests.factories import CONFIGS, ROOT

ALL = sorted(p for p in CONFIGS.rglob('*.py'))
# Those of studies belong to a study's cells, below.
TYPED = [
    p for p in ALL if '_base_' not in p.parts and p.parent.name != 'study'
]
FAMILIES = sorted({p.parent for p in TYPED})
STUDY = read_study(CONFIGS / 'study/low_bits.py')
ON_DIGITS = [
    read_study(CONFIGS / f'study/{x}.py') for x in ('recipes', 'widths')
]
DETECTORS = ['retinanet', 'fcos']
MATRIX = [
    (detector, depth, bits)
    for detector in DETECTORS
    for depth in (18, 34, 50)
    for bits in (8, 4, 3, 2)
]


@cache
def read(path: Path) -> Config:
    """A config that several tests read and none changes."""
    return Config.fromfile(path)


def projections(model: nn.Module) -> set[int]:
    """Widths of what shortcuts between stages and a pyramid's entries read."""
    return {
        layer.input_quantizer.grid.bits
        for name, layer in quantized_layers(model).items()
        if re.search('downsample|lateral', name)
    }


def test_base_names_are_unique():
    # mim finds a config by its base name.
    names = [p.name for p in ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('path', TYPED, ids=lambda p: p.stem)
def test_every_config_can_be_read(path):
    cfg = read(path)
    assert cfg.model.type == 'aqd_mmdet.QuantizedDetector'
    # The hooks have keys of their own in default_hooks, so that a config's
    # custom_hooks do not replace them.
    hooks = cfg.default_hooks
    assert hooks.calibration.type == 'aqd_mmdet.CalibrationHook'
    assert hooks.integer_aware.type == 'aqd_mmdet.IntegerAwareHook'
    assert hooks.checkpoint.type == 'CheckpointHook'
    if 'mix' not in path.parts:
        assert cfg.train_dataloader.persistent_workers is False


@pytest.mark.parametrize('path', TYPED, ids=lambda p: p.stem)
def test_every_config_matches_its_name(path):
    cfg = read(path)
    bits = re.search(r'_aqd-w(\d)a\1_|_(\d)bit$', path.stem)
    expected = int(bits[1] or bits[2]) if bits else 'float'
    assert cfg.model.bits == expected
    if 'digits' not in path.parts:
        # As in MMDetection, only batches other than 8xb2 are in the name.
        batch = re.search(r'_\d+xb(\d+)-', path.stem)
        size = int(batch[1]) if batch else 2
        assert cfg.train_dataloader.batch_size == size
    models = load(path.parent / 'metafile.yml')['Models']
    (metadata,) = (m['Metadata'] for m in models if m['Name'] == path.stem)
    assert metadata['Bits'] == expected
    assert metadata['Epochs'] == cfg.train_cfg.max_epochs
    model = deepcopy(cfg.model)
    model.backbone.init_cfg = None
    layers = quantized_layers(MODELS.build(model)).values()
    weights = {layer.weight_quantizer.grid.bits for layer in layers}
    inputs = {
        layer.input_quantizer.grid.bits
        for layer in layers
        if not isinstance(layer.input_quantizer, ImageQuantizer)
    }
    assert weights == inputs == ({expected, 8} if bits else set())


def test_the_index_lists_every_family():
    files = [f'{p.relative_to(ROOT)}/metafile.yml' for p in FAMILIES]
    assert load(ROOT / 'model-index.yml') == dict(Import=files)


@pytest.mark.parametrize('family', FAMILIES, ids=lambda p: p.name)
def test_metafiles_and_readmes_list_every_config(family):
    stems = sorted(p.stem for p in TYPED if p.parent == family)
    meta = load(family / 'metafile.yml')
    (collection,) = meta['Collections']
    assert ROOT / collection['README'] == family / 'README.md'
    assert sorted(model['Name'] for model in meta['Models']) == stems
    for model in meta['Models']:
        assert model['In Collection'] == collection['Name']
        assert ROOT / model['Config'] == family / f'{model["Name"]}.py'
    links = re.findall(
        r'\]\(\./(.*?)\.py\)', (family / 'README.md').read_text()
    )
    assert sorted(links) == stems


@pytest.mark.parametrize(
    'path', [p for p in ALL if 'mix' in p.parts], ids=lambda p: p.stem
)
def test_mixed_configs_are_short(path):
    lines = [
        line
        for line in path.read_text().splitlines()
        if line and not line.startswith('#')
    ]
    # At most 15 lines after the list of bases.
    bases = next(i for i, x in enumerate(lines) if x.endswith(']'))
    assert len(lines) - bases - 1 <= 15


@pytest.mark.parametrize('detector, depth, bits', MATRIX)
def test_matrix(detector, depth, bits):
    name = f'aqd/{detector}_r{depth}_fpn_aqd-w{bits}a{bits}_1x_coco.py'
    cfg = read(CONFIGS / name)
    assert cfg.model.bits == bits
    assert cfg.model.backbone.depth == depth
    assert cfg.model.backbone.frozen_stages == -1
    assert cfg.optim_wrapper.optimizer.lr == (
        0.002 if (detector, depth, bits) == ('retinanet', 18, 4) else 0.001
    )
    assert f'{detector}_r{depth}_fpn_bn_1x_coco' in cfg.load_from


@pytest.mark.parametrize('detector', DETECTORS)
@pytest.mark.parametrize('bits', [8, 4, 3, 2])
def test_front_doors(detector, bits):
    cfg = read(CONFIGS / f'aqd/{detector}_{bits}bit.py')
    assert (cfg.model.backbone.depth, cfg.model.bits) == (50, bits)
    assert cfg.load_from == f'work_dirs/{detector}_fp/epoch_12.pth'


@pytest.mark.parametrize('detector', DETECTORS)
def test_float_front_door_follows_the_published_schedule(detector):
    cfg = read(CONFIGS / f'aqd/{detector}_fp.py')
    assert cfg.model.bits == 'float'
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001
    )
    assert cfg.param_scheduler[0].end == 1000
    assert cfg.model.backbone.init_cfg.type == 'aqd_mmdet.PretrainedRawImage'


def test_overrides_of_mmdet_options():
    cfg = Config.fromfile(CONFIGS / 'aqd/retinanet_2bit.py')
    cfg.merge_from_dict({'model.bbox_head.num_classes': 3, 'model.bits': 3})
    model = MODELS.build(cfg.model)
    assert model.bbox_head.retina_cls.out_channels == 9 * 3
    stem = model.backbone.conv1
    assert isinstance(stem, QuantConv2d)
    assert stem.weight_quantizer.grid.bits == 8
    assert model.backbone.layer1[0].conv1.weight_quantizer.grid.bits == 3


def test_clip_values_do_not_decay():
    from mmengine.optim import build_optim_wrapper

    cfg = Config.fromfile(
        CONFIGS / 'aqd/retinanet_r18_fpn_aqd-w2a2_1x_coco.py'
    )
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decay = {id(g['params'][0]): g['weight_decay'] for g in groups}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0 if name.endswith('.clip') else 1e-4)


@pytest.mark.parametrize(
    'cell', [c for c in STUDY.cells if not c.seed], ids=lambda c: c.name
)
def test_cells_of_the_study(cell):
    cfg = Config.fromfile(STUDY.config_of(cell))
    before = deepcopy(cfg)
    cfg.merge_from_dict(STUDY.options_of(cell))
    model = MODELS.build(deepcopy(cfg.model))
    adds = {m.grid.bits for m in model.modules() if isinstance(m, QuantAdd)}
    wide = 16 if cell.recipe == 'paper' else 8
    is_published = cell.recipe in ('paper', 'uniform')
    read_bits = {cell.bits if is_published else 8}
    assert projections(model) == (set() if cell.bits == 'float' else read_bits)
    assert adds == (set() if cell.bits == 'float' else {wide})
    assert cfg.default_hooks.calibration.start == (
        'paper' if cell.recipe == 'paper' else 'mse'
    )
    clip = cfg.optim_wrapper.paramwise_cfg.custom_keys['.clip']
    assert clip.decay_mult == (cell.recipe == 'paper')
    # Overrides of lists go by their places.
    warm_up, cosine = cfg.param_scheduler
    assert warm_up == before.param_scheduler[0]
    assert cosine.end == cfg.train_cfg.max_iters


@pytest.mark.parametrize(
    ('study', 'cell'),
    [(s, c) for s in ON_DIGITS for c in s.cells if not c.seed],
    ids=lambda x: x.path.stem if isinstance(x, Study) else x.name,
)
def test_cells_of_studies_on_digits(study, cell):
    """Each changes the default, and can be built."""
    cfg = Config.fromfile(study.config_of(cell))
    options = study.options_of(cell)
    before = deepcopy(cfg)
    cfg.merge_from_dict(options)
    found = projections(MODELS.build(deepcopy(cfg.model)))
    if study.path.stem == 'recipes' and 'act_bits' not in str(options):
        assert found <= {cell.bits}
    elif study.path.stem == 'widths':
        expected = {
            'uniform': {2},
            'projections_4': {4},
            'shortcuts': {2, 8},
            'laterals': {2, 8},
        }.get(cell.recipe, {8})
        assert found == (set() if cell.bits == 'float' else expected)
    assert (cell.schedule == 'scratch') == (
        cfg.train_cfg.max_epochs == before.train_cfg.max_epochs
    )
    plain = {'model.bits', 'randomness.seed', 'train_cfg.max_epochs'}
    is_plain = cell.recipe == 'default' and 'rate' not in cell.schedule
    assert (options.keys() <= plain) == is_plain
