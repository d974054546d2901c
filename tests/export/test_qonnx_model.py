"""Detectors in QONNX: equal maps, and what FINN asks of a graph."""

import re
from collections import Counter
from functools import partial

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_model, qonnx_model
from aqd_mmdet.export.onnx_proto import DOMAINS, QONNX
from aqd_mmdet.export.qonnx_model import export, model_of
from aqd_mmdet.program import detector as records
from aqd_mmdet.program import ops as ir
from aqd_mmdet.runtime import reference
from tests.export import models
from tests.export.qonnx_operators import check_maps, evaluate, execute
from tests.export.test_qdq_model import mixed_program
from tests.factories import ROOT, detector, narrow_program
from tests.random_detectors import random_detector
from tests.random_programs import RandomProgram

SIZE = (64, 96)
NAMES = ['retinanet', 'fcos', 'yolox']
# What gives the codes that it is given.
MOVES = {'MaxPool', 'Resize', 'Concat', 'Slice', 'Relu', 'Clip', 'Sub'}


def pixels(seed: int, *size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (1, 3, *size)).astype(np.uint8)


def model(
    program: ir.Program, size: tuple[int, int] = SIZE
) -> onnx.ModelProto:
    return models.model(program, partial(model_of, size=size))


def texts_of(content: bytes) -> dict[str, str]:
    found = onnx.load_from_string(content)
    return {each.key: each.value for each in found.metadata_props}


def program_of(name: str, bits: int) -> ir.Program:
    if name == 'yolox':
        return mixed_program(bits)
    return narrow_program(bits, name)


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(
            (name, bits),
            # The largest takes longest.
            marks=pytest.mark.slow if name == 'yolox' else (),
            id=f'{name} of {bits} bits',
        )
        for name in NAMES
        for bits in (2, 4, 8)
    ],
)
def program(request) -> ir.Program:
    return program_of(*request.param)


@pytest.mark.parametrize('size', [SIZE, (128, 64)])
def test_maps(program, size):
    image = pixels(0, *size)
    check_maps(program, image, evaluate(model(program, size), image))


# It takes up to a minute for each: one width of each detector.
@pytest.mark.slow
@pytest.mark.parametrize(
    'name, bits', [('retinanet', 2), ('fcos', 4), ('yolox', 8)]
)
def test_the_executor_of_qonnx_finds_the_maps(name, bits):
    pytest.importorskip('qonnx')
    program = program_of(name, bits)
    image = pixels(1, *SIZE)
    check_maps(program, image, execute(model(program), image))


@pytest.mark.slow
def test_the_package_qonnx_infers_the_widths():
    """Weights of 2 bits are odd numbers from -3 to 3."""
    pytest.importorskip('qonnx')
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_datatypes import InferDataTypes

    wrapper = ModelWrapper(model(narrow_program(2))).transform(
        InferDataTypes()
    )
    assert wrapper.get_tensor_datatype('image').name == 'UINT8'
    found = Counter(
        tuple(wrapper.get_tensor_datatype(name).name for name in node.input)
        for node in wrapper.graph.node
        if node.op_type == 'Conv'
    )
    assert found == {
        ('INT9', 'INT8'): 1,
        ('UINT2', 'INT3'): 36,
        ('UINT8', 'INT3'): 6,  # projections
        ('UINT8', 'INT8'): 8,
    }


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@settings(max_examples=60, deadline=None)
def test_random_programs(seed, size):
    program = RandomProgram(seed).program()
    image = pixels(seed, 8 * size[0], 8 * size[1])
    check_maps(
        program, image, evaluate(model(program, image.shape[2:]), image)
    )


def test_what_finn_asks_of_a_graph(program):
    """Convolutions are Conv, of codes and weights whose widths are said."""
    graph = model(program).graph
    makers = {node.output[0]: node for node in graph.node}
    constants = {
        each.name: numpy_helper.to_array(each) for each in graph.initializer
    }
    readers = Counter(name for node in graph.node for name in node.input)
    kinds = Counter(node.op_type for node in graph.node)
    convolutions = [op for op in program.ops if isinstance(op, ir.Convolution)]
    assert kinds['Conv'] == len(convolutions)
    assert 'ConvInteger' not in kinds
    for node in graph.node:
        assert node.domain == (QONNX if node.op_type in DOMAINS else '')
        if node.op_type == 'Conv':
            values, weights = (makers[name] for name in node.input)
            while values.op_type in MOVES:
                values = makers[values.input[0]]
            assert values.op_type in DOMAINS, node.name
            assert weights.op_type == 'Quant'
            assert weights.input[0] in constants
            assert readers[weights.output[0]] == 1
        if node.op_type == 'Quant':
            scale, zero, bits = (constants[name] for name in node.input[1:])
            assert (scale, zero) == (1, 0)
            assert bits.shape == ()
            signed = {each.name: each.i for each in node.attribute}['signed']
            if not signed:
                assert makers[node.input[0]].op_type == 'Relu'


@pytest.mark.parametrize('name', ['retinanet', 'fcos'])
@pytest.mark.parametrize('bits', [2, 4])
def test_few_codes_need_no_thresholds(name, bits):
    graph = model(narrow_program(bits, name)).graph
    assert 'MultiThreshold' not in {node.op_type for node in graph.node}


def test_sums_have_signs_with_which_multipliers_are_positive():
    """FINN has no thresholds for negative factors."""
    program = narrow_program(2)
    assert any(
        (op.multipliers.m < 0).any()
        for op in program.ops
        if isinstance(op, ir.Requantize)
    )
    graph = model(program).graph
    constants = {
        each.name: numpy_helper.to_array(each) for each in graph.initializer
    }
    factors = [
        constants[node.input[1]]
        for node in graph.node
        if node.op_type == 'Mul'
    ]
    floats = [each for each in factors if each.dtype == np.float32]
    assert len(floats) > 60
    assert all((each > 0).all() for each in floats)


def test_shapes_are_known(program):
    graph = model(program).graph
    sizes = program.sizes(SIZE)
    values = [*graph.value_info, *graph.input, *graph.output]
    shapes = {
        each.name: [x.dim_value for x in each.type.tensor_type.shape.dim]
        for each in values
    }
    assert {node.output[0] for node in graph.node} <= shapes.keys()
    assert all(0 not in shape for shape in shapes.values())
    (image,) = graph.input
    assert shapes[image.name] == [1, 3, *SIZE]
    for each in graph.output:
        channels = program.by_output[each.name].channels
        assert shapes[each.name] == [1, channels, *sizes[each.name]]


def test_nodes_have_the_names_of_modules():
    graph = model(narrow_program(2)).graph
    names = {node.name for node in graph.node}
    assert 'backbone.conv1/Conv' in names
    assert 'backbone.conv1/weights/Quant' in names
    assert 'bbox_head.retina_cls/Conv' in names
    assert all(node.output == [node.name] for node in graph.node)


def test_weights_that_levels_share_are_there_once():
    program = narrow_program(2)
    constants = [x.name for x in model(program).graph.initializer]
    weights = [x for x in constants if x.endswith('/weights')]
    # Signs of the levels are the same.
    assert sorted(weights) == sorted(f'{x}/weights' for x in program.weights)


def test_metadata_is_that_of_integers():
    compiled = detector()
    content = export(compiled, (8, 16))
    assert content == export(compiled, (8, 16))
    assert texts_of(content) == texts_of(onnx_model.export(compiled))


@pytest.mark.parametrize('decoder', [records.Anchors, records.Points])
def test_files_of_detectors(decoder):
    compiled = random_detector(1, decoder, records.Product)
    stride = compiled.program.stride
    image = pixels(2, stride, 2 * stride)
    content = export(compiled, image.shape[2:])
    found = evaluate(onnx.load_from_string(content), image)
    expected = reference.run(compiled.program, image)
    for values, wanted in zip(found.values(), expected.values(), strict=True):
        assert np.array_equal(values, wanted)


def test_a_size_that_is_no_multiple_of_the_stride_is_refused():
    with pytest.raises(UserError, match='multiples of 8.*found 8 x 12'):
        export(detector(), (8, 12))


def test_a_kind_without_a_translation_is_refused(monkeypatch):
    def without_some(program, sizes):
        others = dict(all_translations(program, sizes))
        del others[ir.Convolution]
        return others

    all_translations = qonnx_model.translations
    monkeypatch.setattr(qonnx_model, 'translations', without_some)
    with pytest.raises(
        UserError, match=r'^operator c: expected .*, found Convolution$'
    ):
        export(detector(), (8, 8))


def test_second_stages_are_refused():
    compiled = random_detector(0, records.Anchors, records.Sigmoid, 1)
    stride = compiled.program.stride
    with pytest.raises(
        UserError, match='expected one stage .* found a second'
    ):
        export(compiled, (stride, stride))


def test_the_document_lists_every_kind_that_is_translated():
    document = (ROOT / 'docs/export.md').read_text()
    section = document.split('### Nodes of QONNX\n')[1].split('\n#')[0]
    cells = re.findall(r'^\| (`.*?`) \|', section, re.MULTILINE)
    listed = {name.strip('`') for cell in cells for name in cell.split(', ')}
    found = qonnx_model.translations(detector().program, {}).keys()
    assert listed == {kind.__name__ for kind in found}


def test_every_kind_of_a_network_is_translated():
    program = detector().program
    found = qonnx_model.translations(program, {}).keys()
    assert found == {*ir.OPERATORS} - {ir.Region}
