"""A file with boxes is evaluated, and any other is refused by its name."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_detector, onnx_model, qdq_model
from aqd_mmdet.export.onnx_session import (
    ExportedDetector,
    about_detector,
    give_own_weights,
    read_about,
    read_model,
)
from aqd_mmdet.runtime import Detector, reference
from tests.factories import detector, noise
from tests.random_detectors import DECODERS, SCORES, random_detector


def content() -> onnx.ModelProto:
    exported = onnx_detector.export(detector(), onnx_model.network)
    return onnx.load_from_string(exported)


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def set_text(model: onnx.ModelProto, key: str, value: object) -> None:
    texts = {each.key: each.value for each in model.metadata_props}
    texts[key] = value if isinstance(value, str) else json.dumps(value)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, texts)


def test_boxes_are_those_of_the_runtime(tmp_path):
    path = save(tmp_path / 'model.onnx', content())
    image = noise(0, 160, 160).transpose(2, 0, 1)[None]
    found = ExportedDetector(path, 1).boxes(image, (150, 140), (75, 280))
    maps = reference.run(detector().program, image)
    expected = Detector(detector(), 1, reference.run).boxes(
        maps, 0, (150, 140), (75, 280)
    )
    assert len(expected.labels) > 0
    for x, wanted in zip(found, expected, strict=True):
        assert x.dtype == wanted.dtype
        assert np.array_equal(x, wanted)


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('scores', SCORES)
def test_metadata_say_what_the_program_says(tmp_path, decoder, scores):
    compiled = random_detector(3, decoder, scores)
    path = tmp_path / 'model.onnx'
    path.write_bytes(onnx_detector.export(compiled, onnx_model.network))
    assert read_about(path, read_model(path)) == about_detector(compiled)


def test_metadata_of_others_are_let_be(tmp_path):
    model = content()
    expected = read_about(tmp_path, model)
    set_text(model, 'author', 'no JSON')
    assert read_about(tmp_path, model) == expected


def test_weights_of_nodes_become_their_own():
    helper = onnx.helper
    arrays = {
        'w': np.array([5], np.int8),
        'w.2': np.array([6], np.int8),
        's': np.array([2], np.float32),
    }
    read = dict(a='w', b='w', c='w', d='w.2')
    nodes = [
        helper.make_node('DequantizeLinear', [weights, 's'], [name], axis=0)
        for name, weights in read.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        for name in read
    ]
    constants = [
        onnx.numpy_helper.from_array(x, name) for name, x in arrays.items()
    ]
    graph = helper.make_graph(nodes, 'g', [], outputs, constants)
    model = helper.make_model(graph)
    give_own_weights(model)
    onnx.checker.check_model(model, full_check=True)
    names = [tuple(node.input) for node in model.graph.node]
    assert len({weights for weights, _ in names}) == len(names)
    assert {scale for _, scale in names} == {'s'}
    found = ReferenceEvaluator(model).run(None, {})
    assert [x.tolist() for x in found] == [[10], [10], [10], [12]]
    assert len({x.name for x in model.graph.initializer}) == 5


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda x: setattr(x, 'producer_name', 'pytorch'),
            'a file that tools/export.py wrote, found one of pytorch$',
        ),
        (
            lambda x: x.ClearField('producer_name'),
            'wrote, found one of no producer$',
        ),
        (
            lambda x: set_text(x, 'aqd.format_version', 4),
            'expected version 5 of its metadata, found 4: export it again$',
        ),
        (
            lambda x: set_text(x, 'aqd.labels', 'cat'),
            'its metadata are not those of this version .*: export it again$',
        ),
        (
            lambda x: set_text(x, 'aqd.selection', dict(keep=1, scales=[])),
            r'not those of this version \(.*missing.*\): export it again$',
        ),
        (
            lambda x: set_text(x, 'aqd.preprocess', dict(kind='A', fill=[])),
            r'not those of this version \(.*missing.*\): export it again$',
        ),
        (
            lambda x: x.ClearField('metadata_props'),
            r"not those of this version \('aqd.format_version'\)",
        ),
    ],
)
def test_files_of_others_are_refused(tmp_path, change, message):
    model = content()
    change(model)
    path = save(tmp_path / 'model.onnx', model)
    with pytest.raises(UserError, match=message) as caught:
        ExportedDetector(path, 1)
    assert str(caught.value).startswith(f'model {path}: ')


@pytest.mark.parametrize('form', [onnx_model, qdq_model])
def test_maps_are_refused(tmp_path, form):
    path = tmp_path / 'model.onnx'
    path.write_bytes(form.export(detector()))
    with pytest.raises(UserError, match='found logits.0, .* with --boxes$'):
        ExportedDetector(path, 1)


def test_what_is_no_onnx_is_refused(tmp_path):
    path = tmp_path / 'model.onnx'
    with pytest.raises(UserError, match='model.onnx: no such file$'):
        ExportedDetector(path, 1)
    path.write_bytes(b'PK and more')
    with pytest.raises(UserError, match='model.onnx: expected a file of ONNX'):
        ExportedDetector(path, 1)


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime'])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    path = save(tmp_path / 'model.onnx', content())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=f'evaluating {path} needs .* pip install .*export'
    ):
        ExportedDetector(path, 1)
