"""Detectors as models of ONNX: equal maps, and all that a reader needs."""

import json
import re
import sys
from dataclasses import fields, replace
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_model
from aqd_mmdet.export.onnx_model import TRANSLATIONS, export
from aqd_mmdet.program import detector as records
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.container import VERSION
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import Detector, example, reference
from aqd_mmdet.runtime.preprocess import prepare
from tests.export.models import check, from_pixels, model, session
from tests.factories import ROOT, detector, narrow_program, noise
from tests.random_detectors import DECODERS, SCORES, random_detector
from tests.random_programs import RandomProgram
from tests.specification.random_operators import MAKERS, random_operator

DOCUMENT = (ROOT / 'docs/export.md').read_text()
seeds = st.integers(0, 2**32 - 1)
INTEGERS = {
    onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64,
    onnx.TensorProto.UINT64, onnx.TensorProto.BOOL,
}  # fmt: skip


def rows(heading: str) -> dict[str, str]:
    """First and second column of the table below a heading, unquoted."""
    section = DOCUMENT.split(f'## {heading}\n')[1].split('\n## ')[0]
    return dict(re.findall(r'^\| `(\w+)` \| (.*?) \|', section, re.MULTILINE))


def operators(exported: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in exported.graph.node}


def network_of(kind: str, seed: int) -> ir.Program:
    return from_pixels(*random_operator(kind, seed))[0]


@given(seed=seeds, size=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@settings(max_examples=40, deadline=None)
def test_random_programs(seed, size):
    program = RandomProgram(seed).program()
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2, 3, 8 * size[0], 8 * size[1]))
    check(program, image.astype(np.uint8), len(program.ops) < 12)


@pytest.mark.parametrize(
    'bits, name', [(2, 'retinanet'), (4, 'fcos'), (8, 'retinanet')]
)
def test_detectors_of_layers(bits, name):
    program = narrow_program(bits, name)
    rng = np.random.default_rng(bits)
    for size in ((64, 96), (96, 32)):
        image = rng.integers(0, 256, (1, 3, *size)).astype(np.uint8)
        check(program, image, False)


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('scores', SCORES)
def test_a_reader_finds_the_same_boxes(decoder, scores):
    """What a file has besides the graph says all that is done behind it."""
    for seed in range(4):
        compiled = random_detector(seed, decoder, scores, wild=seed > 1)
        content = export(compiled)
        image = noise(seed, 20, 30)
        found = Reader(content)(image)
        expected = Detector(compiled, 1, reference.run)(image)
        for values, wanted in zip(found, expected, strict=True):
            assert np.array_equal(values, wanted)


class Reader:
    """Runs a file by ONNX Runtime, with nothing but what it holds."""

    def __init__(self, content: bytes) -> None:
        self.session = session(content)
        texts = {
            key: json.loads(value)
            for key, value in (
                self.session.get_modelmeta().custom_metadata_map.items()
            )
        }
        self.texts = texts
        self.outputs = texts['aqd.outputs']
        outputs = tuple(
            ir.Output(tuple(each['names']), each['scale'])
            for each in self.outputs
        )
        self.compiled = CompiledDetector(
            ir.Program((), {}, outputs, texts['aqd.stride']),
            record(texts['aqd.preprocess']),
            record(texts['aqd.postprocess']),
            None,
            tuple(texts['aqd.labels']),
        )

    def __call__(self, image: np.ndarray):
        pre, stride = self.compiled.preprocess, self.compiled.program.stride
        pixels, size = prepare(image, pre, stride)
        names = [x.name for x in self.session.get_outputs()]
        maps = self.session.run(None, {'image': pixels})
        assert all(x.dtype == np.int32 for x in maps)
        outputs = dict(zip(names, maps, strict=True))
        boxes = Detector(self.compiled, 1, reference.run).boxes
        return boxes(outputs, 0, size, image.shape[:2])


def record(value: Any, hint: Any = None) -> Any:
    """Undo :func:`onnx_model.plain`."""
    if isinstance(value, dict):
        name = value['kind']
        cls = Multipliers if name == 'Multipliers' else getattr(records, name)
        hints = get_type_hints(cls, include_extras=True)
        assert {f.name for f in fields(cls)} | {'kind'} == value.keys()
        return cls(
            **{
                key: record(each, hints[key])
                for key, each in value.items()
                if key != 'kind'
            }
        )
    if isinstance(value, list):
        metadata = getattr(hint, '__metadata__', None)
        if metadata is not None:
            return np.array(value, metadata[0])
        item = get_args(hint)[0] if get_origin(hint) is tuple else None
        return tuple(record(each, item) for each in value)
    return value


def test_metadata():
    content = export(detector())
    texts = Reader(content).texts
    assert texts['aqd.labels'] == ['cat', 'dög']
    assert texts['aqd.format_version'] == VERSION
    assert texts['aqd.stride'] == 8
    assert texts['aqd.outputs'] == [
        dict(kind='logits', names=['logits.0'], scale=0.25),
        dict(kind='box_codes', names=['box_codes.0'], scale=0.125),
    ]
    assert set(texts) == set(
        re.findall(r'^\| `(aqd\.\w+)` \|', DOCUMENT, re.MULTILINE)
    )


def test_sides_are_dynamic_and_the_file_is_reproducible():
    content = export(detector())
    assert content == export(detector())
    shapes = [
        (each.name, each.shape)
        for each in (
            *session(content).get_inputs(), *session(content).get_outputs()
        )
    ]  # fmt: skip
    assert shapes == [
        ('image', ['batch', 3, 'height', 'width']),
        ('logits.0', ['batch', 2, 'logits.0.height', 'logits.0.width']),
        (
            'box_codes.0',
            ['batch', 4, 'box_codes.0.height', 'box_codes.0.width'],
        ),
    ]


def test_tritons_description_fits_the_example():
    runner = session(export(file.load(example.MODEL)[0]))
    pattern = r'name: "(\S+)" data_type: TYPE_(\w+) dims: \[ (.*?) \]'
    written = [
        (name, f'tensor({kind.lower()})', sizes)
        for name, kind, sizes in re.findall(pattern, DOCUMENT)
    ]
    # Without the batch. A size that is free is -1.
    (image,) = ((x.name, x.type, '3, -1, -1') for x in runner.get_inputs())
    maps = ((x.name, x.type, '-1, -1, -1') for x in runner.get_outputs())
    assert written == [image, *maps]


@pytest.mark.parametrize('size', [(8, 12), (12, 8), (4, 4), (4, 16)])
def test_sides_that_are_no_multiples_of_the_stride_fail(size):
    runner = session(export(detector()))
    image = np.zeros((1, 3, *size), np.uint8)
    with pytest.raises(Exception, match='must be multiples of 8'):
        runner.run(None, {'image': image})


def test_nodes_have_the_names_of_modules():
    exported = model(narrow_program(2, 'retinanet'))
    names = {node.name for node in exported.graph.node}
    assert 'backbone.conv1/ConvInteger' in names
    assert 'bbox_head.retina_cls/ConvInteger' in names
    assert all(node.output == [node.name] for node in exported.graph.node)


def test_weights_that_levels_share_are_there_once():
    program = narrow_program(2, 'retinanet')
    exported = model(program)
    constants = [each.name for each in exported.graph.initializer]
    weights = [x for x in constants if x.endswith('/weights')]
    assert sorted(weights) == sorted(f'{x}/weights' for x in program.weights)
    convolutions = [op for op in program.ops if isinstance(op, ir.Convolution)]
    assert len(convolutions) > len(weights)


@pytest.mark.parametrize('kind', MAKERS)
def test_all_tensors_are_integers(kind):
    for seed in range(8):
        exported = model(network_of(kind, seed))
        inferred = onnx.shape_inference.infer_shapes(
            exported, check_type=True, strict_mode=True
        )
        graph = inferred.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        types = {each.type.tensor_type.elem_type for each in values}
        types |= {each.data_type for each in graph.initializer}
        assert types <= INTEGERS
        known = {each.name for each in (*values, *graph.initializer)}
        assert {name for node in graph.node for name in node.output} <= known


def test_the_document_lists_the_nodes_of_every_operator():
    listed = rows('Operators')
    assert listed.keys() == {kind.__name__ for kind in ir.OPERATORS}
    for kind in MAKERS:
        if kind == 'Region':
            continue
        # What brings inputs to it is there in a program without it, too.
        of_inputs = {'Lookup', 'Slice', 'Requantize', 'Image'}
        allowed = {
            name
            for each in {kind, *of_inputs}
            for name in re.findall(r'`(\w+)`', listed[each])
        } | {'Identity', 'Cast', 'Add', 'Clip'}
        for seed in range(20):
            assert operators(model(network_of(kind, seed))) <= allowed, kind


def test_every_kind_is_translated_or_listed_as_refused():
    listed = rows('Operators')
    for kind in ir.OPERATORS:
        refused = listed[kind.__name__].startswith('refused')
        assert refused != (kind in TRANSLATIONS), kind


def test_a_kind_without_a_translation_is_refused(monkeypatch):
    program = replace(detector().program)
    others = {
        kind: function
        for kind, function in TRANSLATIONS.items()
        if kind is not ir.Convolution
    }
    monkeypatch.setattr(onnx_model, 'TRANSLATIONS', others)
    with pytest.raises(
        UserError, match=r'^operator c: expected .*, found Convolution$'
    ):
        model(program)


def test_second_stages_are_refused():
    compiled = random_detector(0, records.Anchors, records.Sigmoid, 1)
    with pytest.raises(
        UserError, match='expected one stage .* found a second'
    ):
        export(compiled)


def test_without_the_package_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)  # cannot be imported
    with pytest.raises(UserError, match=r': pip install .*\[export\]'):
        export(detector())


def with_32_bits(exported: onnx.ModelProto) -> onnx.ModelProto:
    """The assertion on int64 as a runtime has it that computes with int32.

    Constants that do not fit become the largest number, as in OpenVINO.
    """
    constants = {each.name: each for each in exported.graph.initializer}
    nodes = [
        node
        for node in exported.graph.node
        if node.name.startswith('int64 must have 64 bits')
    ]
    first = next(node for node in nodes if node.op_type == 'Cast')
    first.attribute[0].i = onnx.TensorProto.INT32
    for node in nodes:
        if node.op_type not in ('Add', 'Mul', 'Div'):
            continue
        for i, name in enumerate(node.input):
            if name not in constants:
                continue
            value = numpy_helper.to_array(constants[name])
            short = value.clip(None, 2**31 - 1).astype(np.int32)
            node.input[i] = f'{node.name}/{i}'
            exported.graph.initializer.append(
                numpy_helper.from_array(short, node.input[i])
            )
    return exported


@pytest.mark.parametrize('pixel', [0, 1, 2, 127, 254, 255])
def test_runtimes_of_32_bits_fail(pixel):
    content = export(detector())
    image = np.full((2, 3, 8, 16), pixel, np.uint8)
    session(content).run(None, {'image': image})
    short = with_32_bits(onnx.load_from_string(content))
    runner = session(short.SerializeToString())
    with pytest.raises(Exception, match='int64 must have 64 bits'):
        runner.run(None, {'image': image})
