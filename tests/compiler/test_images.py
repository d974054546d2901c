"""What precedes a network is in the program, or refused by name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

from aqd_mmdet.compiler.compile import read_test_preprocess
from aqd_mmdet.compiler.images import _READ, image_mean, read_preprocess
from aqd_mmdet.errors import UserError
from aqd_mmdet.program.detector import PreProcess
from tests.factories import CONFIGS

MEAN = (124, 116, 104)
LOAD = dict(type='LoadImageFromFile')
RESIZE = dict(type='Resize', scale=(160, 160), keep_ratio=True)
PAD = dict(type='Pad', size=(160, 160), pad_val=dict(img=(1, 2, 3)))
PACK = dict(type='PackDetInputs', meta_keys=('img_id',))
EXPECTED = PreProcess(160, 160, False, MEAN, False, False, True)


def preprocessor(**changes) -> DetDataPreprocessor:
    options = dict(mean=MEAN, std=(1, 1, 1), bgr_to_rgb=True)
    return DetDataPreprocessor(**{**options, **changes})


def read(*pipeline, **changes) -> PreProcess:
    return read_preprocess(preprocessor(**changes), pipeline)


ANNOTATIONS = dict(type='LoadAnnotations', with_bbox=True)


@pytest.mark.parametrize(
    'pipeline, changes, expected',
    [
        ((LOAD, RESIZE, PACK), {}, {}),
        ((LOAD, ANNOTATIONS, RESIZE, PACK), {}, {}),
        (({**LOAD, 'type': 'aqd_mmdet.LoadWholeImage'}, RESIZE), {}, {}),
        (({**LOAD, 'type': 'mmcv.LoadImageFromFile'}, RESIZE), {}, {}),
        ((LOAD, {**RESIZE, 'scale': 160}), {}, {}),
        (
            (LOAD, {**RESIZE, 'scale': (1333, 800)}),
            {},
            dict(short=800, long=1333),
        ),
        (
            (LOAD, {**RESIZE, 'keep_ratio': False}),
            {},
            dict(stretch=True),
        ),
        (
            ({**LOAD, 'color_type': 'color_ignore_orientation'}, RESIZE),
            {},
            dict(oriented=False),
        ),
        (
            (LOAD, RESIZE, PAD),
            {},
            dict(whole=True, fill=(3, 2, 1)),
        ),
        (
            (LOAD, RESIZE, {'type': 'Pad', 'pad_to_square': True}),
            {},
            dict(whole=True, fill=(0, 0, 0)),
        ),
        (
            (LOAD, RESIZE, PAD | dict(pad_val=dict(img=0.0))),
            {},
            dict(whole=True, fill=(0, 0, 0)),
        ),
        (
            (LOAD, RESIZE, PAD | dict(pad_val=dict(img=114))),
            {},
            dict(whole=True, fill=(114, 114, 114)),
        ),
        # The preprocessor's border is added behind the mean.
        ((LOAD, RESIZE), dict(pad_value=-4), dict(fill=(120, 112, 100))),
        (
            (LOAD, RESIZE),
            dict(bgr_to_rgb=False, pad_value=114, mean=(0, 0, 0)),
            dict(bgr=True, fill=(114, 114, 114)),
        ),
        (
            (LOAD, RESIZE),
            dict(bgr_to_rgb=False, mean=None, std=None),
            dict(bgr=True, fill=(0, 0, 0)),
        ),
    ],
)
def test_what_a_program_has(pipeline, changes, expected):
    assert read(*pipeline, **changes) == replace(EXPECTED, **expected)


def with_option(transform: dict, name: str, value: object) -> tuple:
    pipeline = [LOAD, RESIZE, PAD, PACK]
    pipeline[pipeline.index(transform)] = {**transform, name: value}
    return tuple(pipeline)


REFUSED = {
    'no resize': ((LOAD, PACK), 'no Resize'),
    'no image': ((RESIZE,), 'between LoadImageFromFile'),
    'two images': ((LOAD, LOAD, RESIZE), 'reads one image'),
    'two resizes': ((LOAD, RESIZE, RESIZE), 'resizes once'),
    'two borders': ((LOAD, RESIZE, PAD, PAD), 'pads once'),
    'a border first': ((LOAD, PAD, RESIZE), 'behind Resize'),
    'grey': (with_option(LOAD, 'color_type', 'grayscale'), 'color_type='),
    'backend': (with_option(LOAD, 'imdecode_backend', 'pillow'), 'pillow'),
    'floats': (with_option(LOAD, 'to_float32', True), 'to_float32=True'),
    'nearest': (with_option(RESIZE, 'interpolation', 'nearest'), 'nearest'),
    'pillow': (with_option(RESIZE, 'backend', 'pillow'), "backend='pillow'"),
    'a list': (with_option(RESIZE, 'scale', [160, 160]), 'expected a tuple'),
    'a share': (
        (LOAD, dict(type='Resize', scale_factor=0.5, keep_ratio=True)),
        r'scale=\(width, height\) instead of scale_factor',
    ),
    'no square': (
        (LOAD, dict(type='Resize', scale=(100, 50))),
        'stretches to squares only',
    ),
    'mode': (with_option(PAD, 'padding_mode', 'edge'), "'edge'"),
    'other size': (with_option(PAD, 'size', (200, 200)), r'size=\(200, 200\)'),
    'divisor': (
        (LOAD, RESIZE, dict(type='Pad', size_divisor=32)),
        'size_divisor=32',
    ),
    'half': (with_option(PAD, 'pad_val', dict(img=(0.5, 1, 2))), 'pad_val='),
    'a float': (
        with_option(PAD, 'pad_val', dict(img=114.0)),
        r'pad_val=114\.0: .* give a whole number, or three',
    ),
    'misspelt': (with_option(RESIZE, 'keep_ration', True), 'keep_ratio'),
}


@pytest.mark.parametrize('pipeline, message', REFUSED.values(), ids=REFUSED)
def test_what_a_program_has_not(pipeline, message):
    with pytest.raises(UserError, match=message) as caught:
        read(*pipeline)
    assert 'test pipeline' in str(caught.value)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(pad_value=0.5), r'pad_value=0\.5'),
        (dict(pad_value=200), 'from 0 to 255'),
        (dict(pad_value=-110), 'from 0 to 255'),
        (dict(std=(1, 1, 2)), 'std='),
        (dict(mean=(123.675, 0, 0)), 'mean='),
    ],
)
def test_preprocessors_that_a_program_has_not(changes, message):
    with pytest.raises(UserError, match=message):
        read(LOAD, RESIZE, **changes)


def test_two_borders_of_different_values():
    # 160 is no multiple of 64: the preprocessor pads on, with the mean.
    with pytest.raises(UserError, match='multiple of 64'):
        read(LOAD, RESIZE, PAD, pad_size_divisor=64)
    read(LOAD, RESIZE, PAD, pad_size_divisor=32)


def test_a_preprocessor_of_another_class():
    class Other(DetDataPreprocessor):
        pass

    pre = Other(mean=MEAN, std=(1, 1, 1))
    with pytest.raises(UserError, match='data_preprocessor .Other.'):
        read_preprocess(pre, [LOAD, RESIZE])


def test_a_known_name_of_another_package():
    class Resize:
        """A transform that has a known name."""

    with pytest.raises(UserError, match='has no Resize'):
        read(LOAD, {**RESIZE, 'type': Resize})


def test_a_transform_that_is_not_registered():
    with (
        DefaultScope.overwrite_default_scope('mmengine'),
        pytest.raises(UserError, match='PackDetInputs is not registered'),
    ):
        read(dict(type='LoadImageFromFile'), RESIZE, PACK)


ALL_TRANSFORMS = sorted(
    set(TRANSFORMS.module_dict)
    | {
        name
        for child in TRANSFORMS.children.values()
        for name in child.module_dict
    }
)


@given(st.sampled_from(ALL_TRANSFORMS))
def test_every_other_transform_is_refused(name):
    if name in _READ:
        return
    with pytest.raises(UserError, match=f'a program has no {name}'):
        read(LOAD, dict(type=name), RESIZE)


@given(
    st.sampled_from([LOAD, RESIZE, PAD, PACK]),
    st.text('abcdefgh_', min_size=3, max_size=12),
)
def test_every_other_option_is_refused(transform, name):
    with pytest.raises(UserError, match=f'{name}=7'):
        read(*with_option(transform, name, 7))


def test_one_mean_for_all_channels():
    assert image_mean(preprocessor(mean=[116], std=[1])) == (116, 116, 116)


def test_mean_of_a_detector_without_one():
    assert image_mean(preprocessor(mean=None, std=None)) == (0, 0, 0)


@pytest.mark.parametrize('name', ['yolox_s', 'rtmdet_s', 'ssdlite', 'paa'])
def test_mmdets_own_pipelines_are_read(name):
    (path,) = CONFIGS.glob(f'mix/{name}*.py')
    cfg = Config.fromfile(path)
    pre = MODELS.build(cfg.model.data_preprocessor)
    assert read_test_preprocess(pre, cfg).long in (320, 640, 1333)


def test_wrapped_test_sets():
    leaf = dict(type='CocoDataset', pipeline=[LOAD, RESIZE, PACK])
    other = dict(leaf, pipeline=[LOAD, {**RESIZE, 'scale': 96}, PACK])

    def read_set(dataset):
        cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
        return read_test_preprocess(preprocessor(), cfg)

    for dataset in (
        leaf,
        dict(type='RepeatDataset', times=2, dataset=leaf),
        dict(type='ConcatDataset', datasets=[leaf, leaf]),
    ):
        assert read_set(dataset) == EXPECTED
    with pytest.raises(UserError, match=r'datasets\.0 and .*datasets\.1'):
        read_set(dict(type='ConcatDataset', datasets=[leaf, other]))
    with pytest.raises(UserError, match=r'\(ConcatDataset\): expected a data'):
        read_set(dict(type='ConcatDataset', datasets=[]))
    mixed = dict(
        type='MultiImageMixDataset',
        dataset=leaf,
        pipeline=[dict(type='Mosaic', img_scale=(9, 9))],
    )
    with pytest.raises(
        UserError, match=r'\(MultiImageMixDataset\) has a pipe'
    ):
        read_set(mixed)
