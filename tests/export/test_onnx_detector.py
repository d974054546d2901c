"""From an image to boxes in ONNX: equal to the runtime, and to the engine."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_detector, onnx_model, qdq_model
from aqd_mmdet.program import detector as records
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.runtime import Detector, postprocess, reference
from aqd_mmdet.runtime.preprocess import prepare
from tests.export.models import Maps, run_evaluator, run_onnxruntime, session
from tests.export.test_onnx_model import INTEGERS
from tests.factories import detector, noise
from tests.random_detectors import DECODERS, SCORES, random_detector

KINDS = [(decoder, scores) for decoder in DECODERS for scores in SCORES]


def model(
    compiled: CompiledDetector,
    network: onnx_detector.Network = onnx_model.network,
) -> onnx.ModelProto:
    return onnx.load_from_string(onnx_detector.export(compiled, network))


def inputs_of(compiled: CompiledDetector, image: np.ndarray) -> Maps:
    pixels, size = prepare(image, compiled.preprocess, compiled.program.stride)
    return dict(image=pixels, size=np.array(size))


def check(
    exported: onnx.ModelProto,
    compiled: CompiledDetector,
    image: np.ndarray,
    run=run_onnxruntime,
) -> int:
    """Compare with the engine; return how many objects there are."""
    inputs = inputs_of(compiled, image)
    found = run(exported, **inputs)
    assert list(found) == ['boxes', 'labels', 'scores']
    assert all(x.dtype == np.int32 for x in found.values())
    size = tuple(inputs['size'].tolist())
    edges = postprocess.rescaled(
        found['boxes'].astype(np.int64), size, image.shape[:2]
    )
    boxes, labels, scores = Detector(compiled, 1)(image)
    assert np.array_equal(edges, boxes)
    assert np.array_equal(found['labels'], labels)
    assert np.array_equal(found['scores'], scores)
    return len(labels)


@pytest.mark.parametrize('decoder, scores', KINDS)
@given(seed=st.integers(0, 2**32 - 1), wild=st.booleans())
@settings(max_examples=4, deadline=None)
def test_random_detectors_find_what_the_engine_finds(
    decoder, scores, seed, wild
):
    compiled = random_detector(seed, decoder, scores, wild=wild)
    check(model(compiled), compiled, noise(seed, 20, 30))


@pytest.mark.parametrize('decoder, scores', KINDS)
def test_random_detectors_in_onnxs_evaluator(decoder, scores):
    compiled = random_detector(4, decoder, scores)
    check(model(compiled), compiled, noise(4, 20, 30), run_evaluator)


def test_random_detectors_find_something():
    """Most of them do, so that what is compared above is not nothing."""
    counts = []
    for seed in range(10):
        compiled = random_detector(seed, *KINDS[seed])
        counts.append(check(model(compiled), compiled, noise(seed, 20, 30)))
    assert sum(count > 0 for count in counts) > 7
    assert max(counts) > 20


def test_an_image_of_the_networks_size_needs_no_scaling():
    compiled = detector()
    image = noise(0, 160, 160)
    found = run_onnxruntime(model(compiled), **inputs_of(compiled, image))
    boxes, labels, scores = Detector(compiled, 1, reference.run)(image)
    assert len(labels) > 0
    for x, wanted in zip(found.values(), (boxes, labels, scores), strict=True):
        assert np.array_equal(x, wanted)


def test_one_file_serves_images_of_all_sizes():
    compiled = random_detector(0, *KINDS[0])
    exported = model(compiled)
    sizes = [(20, 30), (30, 20), (11, 90), (7, 7)]
    assert sum(check(exported, compiled, noise(1, *x)) for x in sizes) > 0


def test_all_tensors_are_integers():
    for kinds in KINDS:
        inferred = onnx.shape_inference.infer_shapes(
            model(random_detector(1, *kinds)), check_type=True,
            strict_mode=True,
        )  # fmt: skip
        graphs = [inferred.graph]
        for node in inferred.graph.node:
            graphs += [x.g for x in node.attribute if x.HasField('g')]
        assert len(graphs) == 2
        types = set()
        for graph in graphs:
            values = [*graph.value_info, *graph.input, *graph.output]
            types |= {each.type.tensor_type.elem_type for each in values}
            types |= {each.data_type for each in graph.initializer}
        assert types <= INTEGERS


def test_shapes_and_metadata():
    content = onnx_detector.export(detector(), onnx_model.network)
    assert content == onnx_detector.export(detector(), onnx_model.network)
    runner = session(content)
    shapes = {
        each.name: (each.type, each.shape)
        for each in (*runner.get_inputs(), *runner.get_outputs())
    }
    assert shapes == {
        'image': ('tensor(uint8)', [1, 3, 'height', 'width']),
        'size': ('tensor(int64)', [2]),
        'boxes': ('tensor(int32)', ['detections', 4]),
        'labels': ('tensor(int32)', ['detections']),
        'scores': ('tensor(int32)', ['detections']),
    }
    texts = runner.get_modelmeta().custom_metadata_map
    assert texts.keys() == {
        'aqd.format_version', 'aqd.stride', 'aqd.labels', 'aqd.preprocess',
        'aqd.selection',
    }  # fmt: skip
    assert json.loads(texts['aqd.labels']) == ['cat', 'dög']


@pytest.mark.parametrize('run', [run_onnxruntime, run_evaluator])
def test_two_images_are_refused(run):
    image = np.zeros((2, 3, 8, 8), np.uint8)
    with pytest.raises(Exception, match='dimensions for input: image|squeeze'):
        run(model(detector()), image=image, size=np.array([8, 8]))


@pytest.mark.parametrize('run', [run_onnxruntime, run_evaluator])
@pytest.mark.parametrize('size', [(0, 8), (8, 17), (9, 16), (-1, -1)])
def test_sizes_beyond_the_image_are_refused(run, size):
    image = np.zeros((1, 3, 8, 16), np.uint8)
    run(model(detector()), image=image, size=np.array([8, 16]))
    with pytest.raises(Exception, match='size must be inside|reshape'):
        run(model(detector()), image=image, size=np.array(size))


def test_sizes_whose_areas_overflow_are_refused(monkeypatch):
    """The largest side and its margins are those of the file's limits."""
    assert 2 * onnx_detector.MOST_PIXELS**2 * 2**32 < 2**64
    monkeypatch.setattr(onnx_detector, 'MOST_PIXELS', 20)
    compiled = detector()
    post = replace(compiled.postprocess, margin=4)
    exported = model(replace(compiled, postprocess=post))
    image = np.zeros((1, 3, 8, 16), np.uint8)
    run_onnxruntime(exported, image=image, size=np.array([8, 12]))
    with pytest.raises(Exception, match='at most 12/Reshape'):
        run_onnxruntime(exported, image=image, size=np.array([8, 13]))


def test_second_stages_are_refused():
    compiled = random_detector(0, records.Anchors, records.Sigmoid, 1)
    with pytest.raises(UserError, match='one stage .* found a second'):
        model(compiled)


def test_real_maps_become_integers_again():
    """With QuantizeLinear, boxes are those of its own maps."""
    for seed in range(12):
        compiled = random_detector(seed, *KINDS[seed])
        inputs = inputs_of(compiled, noise(seed, 20, 30))
        found = run_onnxruntime(model(compiled, qdq_model.network), **inputs)
        maps = session(qdq_model.export(compiled)).run(
            None, {'image': inputs['image']}
        )
        tensors = compiled.program.output_names()
        scales = [
            out.scale for out in compiled.program.outputs for _ in out.tensors
        ]
        outputs = {
            name: np.round(x / scale).astype(np.int32)
            for name, x, scale in zip(tensors, maps, scales, strict=True)
        }
        size = tuple(inputs['size'].tolist())
        expected = Detector(compiled, 1, reference.run).boxes(
            outputs, 0, size, size
        )
        for x, wanted in zip(found.values(), expected, strict=True):
            assert np.array_equal(x, wanted)
