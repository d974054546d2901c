"""Detectors with QuantizeLinear: integer convolutions, close to the program.

A code on the border of two steps may become the other one. What reads it can
amplify that, so that codes of one operator are compared to one step, and maps
of whole detectors by their mean difference.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from onnx import numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from PIL import Image

from aqd_mmdet.compiler.fold import fold
from aqd_mmdet.compiler.trace import trace
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_model, qdq_model
from aqd_mmdet.export.onnx_tables import with_fewer_lookups
from aqd_mmdet.export.qdq_convolution import QuantizedConvolution
from aqd_mmdet.export.qdq_model import export, model_of, paired
from aqd_mmdet.program import detector as records
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import FixedPoint
from aqd_mmdet.quantizers.start import mse_clip
from aqd_mmdet.runtime import example, reference
from aqd_mmdet.runtime.preprocess import prepare
from tests.export import models
from tests.export.models import Maps, run_onnxruntime, session
from tests.export.test_onnx_model import Reader
from tests.factories import (
    MEAN,
    ROOT,
    detector,
    narrow_program,
    normalised,
    pixels,
    read_back,
)
from tests.random_detectors import random_detector
from tests.specification.random_operators import random_operator

FLOAT_CONVOLUTIONS = {'Conv', 'FusedConv', 'ConvTranspose'}


def model(program: ir.Program) -> onnx.ModelProto:
    return models.model(program, model_of)


def optimised(exported: onnx.ModelProto, path: Path) -> Counter:
    """Kinds of nodes of the graph that ONNX Runtime runs."""
    options = SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    InferenceSession(
        exported.SerializeToString(), options,
        providers=['CPUExecutionProvider'],
    )  # fmt: skip
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def mixed_program(bits: int = 8) -> ir.Program:
    """YOLOX of configs/mix with few channels."""
    (path,) = ROOT.glob('configs/mix/yolox_s*.py')
    cfg = Config.fromfile(path).model
    cfg.bits = bits
    cfg.backbone.update(widen_factor=0.125)
    cfg.neck.update(in_channels=[32, 64, 128], out_channels=16)
    cfg.bbox_head.update(in_channels=16, feat_channels=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MODELS.build(cfg).eval()
        inputs = dict(inputs=normalised(pixels(2, 3, 96, 96)))
        calibrate(network, [inputs], mse_clip)
        return fold(trace(network), MEAN, 32, FixedPoint()).program


PROGRAMS = {
    'retinanet': lambda: narrow_program(8, 'retinanet'),
    'retinanet of 2 bits': lambda: narrow_program(2, 'retinanet'),
    'fcos': lambda: narrow_program(8, 'fcos'),
    'yolox': mixed_program,
}


@pytest.fixture(scope='module', params=PROGRAMS)
def program(request) -> ir.Program:
    return with_fewer_lookups(PROGRAMS[request.param]())


def test_no_convolution_computes_with_floats(program, tmp_path):
    pairs = sum(isinstance(op, QuantizedConvolution) for op in paired(program))
    exported = model(program)
    written = Counter(node.op_type for node in exported.graph.node)
    kinds = optimised(exported, tmp_path / 'optimised.onnx')
    assert not FLOAT_CONVOLUTIONS & kinds.keys()
    assert kinds['QLinearConv'] == written['Conv']
    assert kinds['ConvInteger'] == written['ConvInteger']
    # Few weights of 2 bits have scales that are too large for their bias.
    assert pairs / 2 < written['Conv'] <= pairs


def all_codes(program: ir.Program, image: np.ndarray) -> Maps:
    """What ONNX Runtime finds for each tensor that its graph has, as codes."""
    exported = model(program)
    _, tensors = onnx_model.graph_of(
        program, paired(program), qdq_model.TRANSLATIONS
    )
    held = {
        name: x
        for name, x in tensors.items()
        if x.name != onnx_model.IMAGE and name != 'image'
    }
    for name in {x.name: x for x in held.values()}:
        exported.graph.output.append(onnx.ValueInfoProto(name=name))
    found = run_onnxruntime(exported, image=image)
    codes = {
        name: np.rint(found[x.name]).astype(np.int64)
        + x.offset.astype(np.int64)[:, None, None]
        for name, x in held.items()
    }
    mean = np.array(program.ops[0].mean)[:, None, None]
    return {**codes, program.ops[0].output: image.astype(np.int64) - mean}


def test_each_operator_is_exact_or_within_a_step(program):
    """Operators of the program are run on what ONNX Runtime gave them.

    Convolutions with QuantizeLinear and group norms are within a step.
    """
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96))
    image = image.astype(np.uint8)
    codes = all_codes(program, image)
    names, sources = set(program.output_names()), program.by_output
    close = {
        op.output
        for op in paired(program)
        if isinstance(op, (QuantizedConvolution, ir.GroupNorm))
    }
    wrong = total = 0
    for op in program.ops[1:]:
        if op.output not in codes or op.output in names:
            continue
        inputs = [
            codes[name]
            if name in codes
            else one(program, sources[name], codes)
            for name in op.inputs
        ]
        expected = reference.run_op(op, inputs, program)
        difference = np.abs(codes[op.output] - expected)
        assert difference.max() <= (op.output in close), op.output
        wrong += (difference > 0).sum()
        total += difference.size
    assert total > 10**5
    assert wrong < 0.002 * total


def one(program: ir.Program, op: ir.Op, codes: Maps) -> np.ndarray:
    """An operator of the program, of codes that were found."""
    return reference.run_op(op, [codes[x] for x in op.inputs], program)


@pytest.mark.parametrize('name', ['retinanet', 'fcos'])
@pytest.mark.parametrize('size', [(64, 96), (128, 64)])
def test_maps_are_close(name, size):
    """By a tenth of their deviation on average."""
    program = PROGRAMS[name]()
    image = np.random.default_rng(0).integers(0, 256, (2, 3, *size))
    image = image.astype(np.uint8)
    expected = reference.run(program, image)
    found = run_onnxruntime(model(program), image=image)
    scales = {
        key: each.scale for each in program.outputs for key in each.tensors
    }
    for key, values in expected.items():
        assert found[key].dtype == np.float32
        real = values * scales[key]
        difference = np.abs(found[key] - real).mean()
        assert difference < 0.1 * real.std(), key


def test_rules_of_runtimes(program):
    """Scales, zero points and neighbours of a convolution."""
    graph = model(program).graph
    constants = {
        each.name: numpy_helper.to_array(each) for each in graph.initializer
    }
    makers = {node.output[0]: node for node in graph.node}
    readers = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            assert (constants[node.input[1]] > 0).all()
        if node.op_type == 'QuantizeLinear':
            assert constants[node.input[2]].dtype == np.uint8
            assert constants[node.input[2]].shape == ()
    for node in graph.node:
        if node.op_type != 'Conv':
            continue
        x, weights, bias = (makers[name] for name in node.input)
        scale = constants[weights.input[1]]
        assert constants[x.input[1]].shape == ()
        assert constants[x.input[2]].dtype == np.uint8
        assert constants[weights.input[0]].dtype == np.int8
        assert constants[weights.input[0]].min() >= -127
        assert not constants[weights.input[2]].any()
        assert constants[bias.input[0]].dtype == np.int32
        assert np.array_equal(
            constants[bias.input[1]], scale * constants[x.input[1]]
        )
        assert readers[node.output[0]] == 1
        assert any(
            node.output[0] in each.input
            for each in graph.node
            if each.op_type == 'QuantizeLinear'
        )


def test_metadata_and_outputs():
    compiled = random_detector(0, records.Points, records.Product)
    content = export(compiled)
    assert content == export(compiled)
    texts = Reader(content).texts
    integers = Reader(onnx_model.export(compiled)).texts
    assert texts.keys() == integers.keys() | {'aqd.thresholds'}
    assert {key: texts[key] for key in integers} == integers
    outputs = session(content).get_outputs()
    assert {each.type for each in outputs} == {'tensor(float)'}
    assert [each.name for each in outputs] == [
        name for kind in texts['aqd.outputs'] for name in kind['names']
    ]
    (image,) = session(content).get_inputs()
    assert (image.type, image.shape) == (
        'tensor(uint8)', ['batch', 3, 'height', 'width']
    )  # fmt: skip


def test_thresholds_are_real():
    compiled = detector()
    post = replace(compiled.postprocess, overlap=2**15)
    compiled = read_back(replace(compiled, postprocess=post))
    found = json.loads(json.dumps(qdq_model.thresholds(compiled)))
    assert found['overlap'] == 0.5
    assert 0 <= found['score'] <= 1


@pytest.mark.parametrize('decoder', [records.Anchors, records.Points])
def test_codes_of_outputs_are_their_values_over_the_scale(decoder):
    """Sums of pixels alone differ by the rounding of floats."""
    compiled = random_detector(1, decoder, records.Sigmoid)
    stride = compiled.program.stride
    image = np.random.default_rng(0).integers(0, 256, (1, 3, stride, stride))
    image = image.astype(np.uint8)
    expected = reference.run(compiled.program, image)
    maps = session(export(compiled)).run(None, {'image': image})
    scales = [
        each.scale for each in compiled.program.outputs for _ in each.tensors
    ]
    for found, codes, scale in zip(
        maps, expected.values(), scales, strict=True
    ):
        bound = 1 + 2.0**-20 * np.abs(codes.astype(float))
        assert (np.abs(found / scale - codes) <= bound).all()


def test_a_kind_without_a_translation_is_refused(monkeypatch):
    others = {
        kind: function
        for kind, function in qdq_model.TRANSLATIONS.items()
        if kind is not ir.Convolution
    }
    monkeypatch.setattr(qdq_model, 'TRANSLATIONS', others)
    with pytest.raises(
        UserError, match=r'^operator c: expected .*, found Convolution$'
    ):
        model(detector().program)


def test_second_stages_are_refused():
    compiled = random_detector(0, records.Anchors, records.Sigmoid, 1)
    with pytest.raises(
        UserError, match='expected one stage .* found a second'
    ):
        export(compiled)


def in_single_precision(exported: onnx.ModelProto) -> onnx.ModelProto:
    """The model as a runtime has it that computes doubles as float32."""
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    for each in exported.graph.initializer:
        if each.data_type == double:
            values = numpy_helper.to_array(each).astype(np.float32)
            each.CopyFrom(numpy_helper.from_array(values, each.name))
    for node in exported.graph.node:
        for attribute in node.attribute:
            if attribute.name == 'to' and attribute.i == double:
                attribute.i = single
    return exported


def change_in_single_precision(
    program: ir.Program, image: np.ndarray
) -> float:
    """Largest mean difference of a map, in its standard deviations."""
    exact, single = (
        run_onnxruntime(each, image=image)
        for each in (model(program), in_single_precision(model(program)))
    )
    return max(
        np.abs(single[name] - values).mean() / values.std()
        for name, values in exact.items()
    )


def test_runtimes_without_doubles_find_the_same():
    """Borders lie between numbers: of 2 bits, and of 11 in residual sums."""
    compiled, _ = file.load(example.MODEL)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 128), 'uint8')
    for program in (compiled.program, narrow_program(2), narrow_program(4)):
        assert change_in_single_precision(program, image) < 1e-3


def test_one_code_that_single_precision_moves():
    """Of a residual sum, in this picture; it changes others."""
    compiled, _ = file.load(example.MODEL)
    image = Image.open(example.PICTURE).convert('RGB')
    pixels, _ = prepare(
        np.asarray(image), compiled.preprocess, compiled.program.stride
    )
    assert change_in_single_precision(compiled.program, pixels) < 0.05


@pytest.mark.parametrize('kind, is_wide', [('Mean', True), ('Add', False)])
def test_runtimes_of_32_bits_fail_where_more_are_needed(kind, is_wide):
    program, _ = models.from_pixels(*random_operator(kind, 0))
    for needs_int64 in (False, True):
        graph, _ = qdq_model.network(program, needs_int64)
        names = [node.name for node in graph.nodes]
        found = any(name.startswith('int64 must') for name in names)
        assert found == (is_wide or needs_int64)
