"""A file becomes MMDetection's detector, of the same function."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config

from aqd_mmdet.engine.checkpoint import read_checkpoint
from aqd_mmdet.errors import UserError
from aqd_mmdet.from_onnx import detector as module
from aqd_mmdet.from_onnx.detector import import_onnx
from tests.from_onnx.exported import SIDE, export, small_yolox

NAMES = ('apple', 'pear', "a 'quoted' plum")


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('exported')
    return export(small_yolox(), folder / 'small.onnx')


@pytest.mark.parametrize(
    'depthwise, depth, batch', [(True, 0.33, False), (False, 0.67, True)]
)
def test_the_same_maps(tmp_path, depthwise, depth, batch):
    detector = small_yolox(depthwise, depth)
    path = export(detector, tmp_path / 'small.onnx', batch=batch)
    said: list[str] = []
    config, checkpoint = import_onnx(
        path, tmp_path / 'new', NAMES, said.append
    )
    assert f'deepen_factor={depth}, use_depthwise={depthwise}' in said[0]
    cfg = Config.fromfile(config)
    found = MODELS.build(cfg.model).eval()
    content = read_checkpoint(checkpoint)
    found.load_state_dict(content['state_dict'])
    assert content['meta']['dataset_meta']['classes'] == NAMES
    for dataset in (
        cfg.train_dataloader.dataset.dataset,
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ):
        assert tuple(dataset.metainfo.classes) == NAMES
    resize = cfg.test_dataloader.dataset.pipeline[1]
    assert resize == dict(type='Resize', scale=(SIDE, SIDE), keep_ratio=True)
    image = torch.randint(0, 256, (2, 3, 96, 64)).float()
    with torch.no_grad():
        expected = detector(image, mode='tensor')
        maps = found(image, mode='tensor')
    for one, other in zip(maps, expected, strict=True):
        for x, y in zip(one, other, strict=True):
            assert (x - y).abs().max() < 1e-3 * y.abs().max()
            assert y.std() > 1e-3  # not all the same


@pytest.mark.parametrize('name', ['small.py', 'small.pth'])
def test_files_of_another_origin_stay(exported, tmp_path, name):
    earlier = tmp_path / name
    earlier.write_text('mine')
    with pytest.raises(UserError, match=f'{name} exists and was not made of'):
        import_onnx(exported, tmp_path, NAMES)
    assert list(tmp_path.iterdir()) == [earlier]
    assert earlier.read_text() == 'mine'


def change_weight(
    monkeypatch: pytest.MonkeyPatch,
    change: object,
    name: str = 'backbone.stage2.0.pointwise_conv.conv.bias',
) -> str:
    """Let one number of the weights that are read be another one."""

    def read(graph):
        yolox = read_yolox(graph)
        weights = dict(yolox.weights)
        weights[name] = change(weights[name])
        return replace(yolox, weights=weights)

    read_yolox = module.read_yolox
    monkeypatch.setattr(module, 'read_yolox', read)
    return name


def test_another_function_is_refused(exported, tmp_path, monkeypatch):
    change_weight(monkeypatch, lambda x: x + np.eye(len(x))[0] * 9)
    with pytest.raises(
        UserError, match='the same maps but for 0.001 .* a difference of '
    ):
        import_onnx(exported, tmp_path / 'new', NAMES)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('level', range(3))
def test_maps_that_are_no_numbers_are_refused(
    exported, tmp_path, monkeypatch, level
):
    """In any level: no comparison with them may pass."""
    change_weight(
        monkeypatch,
        lambda x: x * np.float32(np.nan),
        f'bbox_head.multi_level_conv_cls.{level}.weight',
    )
    with pytest.raises(UserError, match='a difference of nan'):
        import_onnx(exported, tmp_path / 'new', NAMES)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('value', ['nan', 'inf'])
@pytest.mark.parametrize('level', range(3))
def test_a_damaged_number_is_refused(exported, tmp_path, level, value):
    model = onnx.load(exported)
    name = f'detector.bbox_head.multi_level_conv_cls.{level}.weight'
    (weight,) = (x for x in model.graph.initializer if x.name == name)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = float(value)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, name))
    path = tmp_path / 'damaged.onnx'
    onnx.save(model, path)
    with pytest.raises(UserError) as error:
        import_onnx(path, tmp_path / 'new', NAMES)
    assert str(error.value) == (
        f'{path}: bbox_head.multi_level_conv_cls.{level}.weight: expected '
        f'finite numbers, found [{value}]'
    )
    assert not (tmp_path / 'new').exists()


def test_what_onnx_cannot_evaluate_is_refused(exported, tmp_path):
    model = onnx.load(exported)
    model.opset_import[0].version = 13
    conv = next(x for x in model.graph.node if x.op_type == 'Conv')
    (weight,) = (x for x in model.graph.initializer if x.name == conv.input[1])
    values = onnx.numpy_helper.to_array(weight)
    model.graph.initializer.remove(weight)
    for name, array in (
        ('codes', np.rint(values / 0.01).astype(np.int8)),
        ('scale', np.float32(0.01)),
    ):
        constant = onnx.numpy_helper.from_array(np.asarray(array), name)
        model.graph.initializer.append(constant)
    model.graph.node.insert(
        0,
        onnx.helper.make_node(
            'DequantizeLinear', ['codes', 'scale'], [weight.name]
        ),
    )
    path = tmp_path / 'codes.onnx'
    onnx.save(model, path)
    with pytest.raises(
        UserError, match='its maps: expected what the evaluator of ONNX can'
    ) as error:
        import_onnx(path, tmp_path / 'new', NAMES)
    assert '\n' not in str(error.value)


def test_maps_of_zeros_are_equal(exported, tmp_path):
    model = onnx.load(exported)
    for constant in model.graph.initializer:
        if 'multi_level_conv_cls.0' in constant.name:
            zeros = np.zeros(list(constant.dims), np.float32)
            constant.CopyFrom(
                onnx.numpy_helper.from_array(zeros, constant.name)
            )
    path = tmp_path / 'zeros.onnx'
    onnx.save(model, path)
    with warnings.catch_warnings(record=True) as caught:
        import_onnx(path, tmp_path, NAMES)
    assert not [x for x in caught if x.category is RuntimeWarning]


def test_other_widths_are_refused(exported, tmp_path, monkeypatch):
    name = change_weight(monkeypatch, lambda x: x[1:])
    with pytest.raises(
        UserError, match=rf'its {name}: .* \(32,\), found \(31,\)$'
    ):
        import_onnx(exported, tmp_path, NAMES)


def with_metadata(source: Path, folder: Path, names: str) -> Path:
    model = onnx.load(source)
    onnx.helper.set_model_props(model, {'names': names, 'author': 'someone'})
    onnx.save(model, folder / 'named.onnx')
    return folder / 'named.onnx'


@pytest.mark.parametrize(
    'text', [repr(list(NAMES)), repr(dict(enumerate(NAMES)))]
)
def test_names_in_the_metadata(exported, tmp_path, text):
    path = with_metadata(exported, tmp_path, text)
    config, _ = import_onnx(path, tmp_path)
    assert Config.fromfile(config).metainfo.classes == NAMES
    given = tmp_path / 'names.txt'
    given.write_text('one\ntwo\nthree\n')
    config, _ = import_onnx(path, tmp_path, [str(given)])
    assert Config.fromfile(config).metainfo.classes == ('one', 'two', 'three')


@pytest.mark.parametrize(
    'text',
    [
        *('{0: "a"', '3', '{1: "a", 2: "b", 3: "c"}', '[1, 2, 3]'),
        *('{"a", "b", "c"}', '"abc"', '{0: "a",\n1: "b", 2: 3}'),
        pytest.param('-' * 10**5 + '1', id='signs'),
        pytest.param(f'[{"1+" * 10**5}1]', id='sums'),
        pytest.param('[' * 10**5, id='lists'),
    ],
)
def test_metadata_that_are_no_names(exported, tmp_path, text):
    path = with_metadata(exported, tmp_path, text)
    with pytest.raises(
        UserError, match="'names': expected a list, or a dict"
    ) as error:
        import_onnx(path, tmp_path / 'new')
    assert '\n' not in str(error.value)
    assert len(str(error.value).partition(', found ')[2]) <= 100
    config, _ = import_onnx(path, tmp_path / 'new', NAMES)
    assert Config.fromfile(config).metainfo.classes == NAMES


def test_numbers_of_names(exported, tmp_path):
    with pytest.raises(UserError, match='3 classes and no names .*--classes'):
        import_onnx(exported, tmp_path / 'new')
    with pytest.raises(
        UserError, match='--classes: expected 3 names, found 2'
    ):
        import_onnx(exported, tmp_path / 'new', NAMES[:2])
    path = with_metadata(exported, tmp_path, repr(NAMES[:2]))
    with pytest.raises(UserError, match="'names': expected 3 names, found 2"):
        import_onnx(path, tmp_path / 'new')


@pytest.mark.parametrize(
    'name', ['', ' ', 'pear', 'two\nlines', '{{ fileDirname }}']
)
def test_names_that_no_config_can_hold(exported, tmp_path, name):
    names = ['apple', 'pear', name]
    wrong = f"and without '{{{{', which MMEngine replaces, found {name!r}"
    with pytest.raises(UserError, match='--classes: expected names') as error:
        import_onnx(exported, tmp_path / 'new', names)
    assert str(error.value).endswith(wrong)
    path = with_metadata(exported, tmp_path, repr(names))
    with pytest.raises(UserError, match="'names': expected names") as error:
        import_onnx(path, tmp_path / 'new')
    assert str(error.value).endswith(wrong)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('name', ['classes.txt', 'folder/classes'])
def test_a_missing_file_of_names_is_no_class(tmp_path, monkeypatch, name):
    path = export(small_yolox(classes=1), tmp_path / 'one.onnx')
    monkeypatch.chdir(tmp_path)
    Path('folder').mkdir()
    with pytest.raises(UserError, match=f'--classes {name}: no such file; a'):
        import_onnx(path, tmp_path / 'new', [name])
    for each in ('apple tree', 'folder'):
        config, _ = import_onnx(path, tmp_path / 'new', [each])
        assert Config.fromfile(config).metainfo.classes == (each,)
    Path('names').write_text('folder/classes\n')
    config, _ = import_onnx(path, tmp_path / 'new', ['names'])
    assert Config.fromfile(config).metainfo.classes == ('folder/classes',)


def test_a_file_of_names_that_is_no_text(exported, tmp_path):
    given = tmp_path / 'names.txt'
    given.write_bytes('birne\näpfel\nnuß\n'.encode('latin-1'))
    with pytest.raises(UserError, match=r'--classes .*names\.txt: .* UTF-8'):
        import_onnx(exported, tmp_path / 'new', [str(given)])


def test_names_of_80_classes_are_those_of_coco(tmp_path):
    path = export(small_yolox(classes=80), tmp_path / 'coco.onnx')
    config, _ = import_onnx(path, tmp_path)
    classes = Config.fromfile(config).metainfo.classes
    assert classes == CocoDataset.METAINFO['classes']


def test_sides_that_are_no_square(exported, tmp_path):
    model = onnx.load(exported)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[3].dim_value = 96
    # Its maps have other sizes then.
    del (
        model.graph.value_info[:],
        model.graph.output[0].type.tensor_type.shape.dim[:],
    )
    path = tmp_path / 'wide.onnx'
    onnx.save(model, path)
    with pytest.raises(UserError, match='a square .* found 64 x 96'):
        import_onnx(path, tmp_path / 'new', NAMES)
