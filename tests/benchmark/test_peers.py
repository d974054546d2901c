"""Quantising by other libraries."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from aqd_mmdet.benchmark.peers import (
    OnnxSettings,
    output_nodes,
    quantize_nncf,
    quantize_onnxruntime,
)
from aqd_mmdet.benchmark.prepare import export, float_convolutions
from aqd_mmdet.benchmark.runners import onnxruntime_session, openvino_model

SHAPE = (1, 3, 8, 8)


def node(kind, inputs, output):
    return SimpleNamespace(
        op_type=kind, name=output, input=inputs, output=[output]
    )


def test_outputs_begin_at_the_last_convolutions():
    graph = SimpleNamespace(
        node=[
            node('Conv', ['image', 'w'], 'stem'),
            node('Conv', ['stem', 'w'], 'a'),
            node('Relu', ['a'], 'b'),
            node('Mul', ['b', 'scale'], 'c'),
            node('Conv', ['stem', 'w'], 'd'),
        ],
        output=[SimpleNamespace(name=x) for x in 'cd'],
    )
    assert sorted(output_nodes(graph)) == ['a', 'b', 'c', 'd']


@pytest.fixture
def network(tmp_path):
    """An exported network of three convolutions, and images."""
    pytest.importorskip('onnx')
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 1), nn.ReLU()]
    path = tmp_path / 'float.onnx'
    export(nn.Sequential(*layers, nn.Conv2d(4, 2, 1)).eval(), path, SHAPE)
    rng = np.random.default_rng(0)
    return path, [rng.normal(size=SHAPE).astype(np.float32) for _ in range(3)]


@pytest.mark.parametrize('calibration', ['MinMax', 'Percentile', 'Entropy'])
def test_onnxruntime(network, tmp_path, calibration, capsys):
    pytest.importorskip('onnxruntime')
    source, images = network
    whole, part = tmp_path / 'whole.onnx', tmp_path / 'part.onnx'
    steps = []
    quantize_onnxruntime(
        source,
        whole,
        images,
        OnnxSettings(calibration),
        lambda: steps.append(1),
    )
    assert len(steps) == len(images)
    assert not list(float_convolutions(whole))
    settings = OnnxSettings(calibration, True, True)
    quantize_onnxruntime(source, part, images, settings)
    assert len(list(float_convolutions(part))) == 1
    assert capsys.readouterr().out == ''
    assert {x.name for x in tmp_path.iterdir()} == {
        'float.onnx',
        'part.onnx',
        'whole.onnx',
    }
    exact, found = (
        onnxruntime_session(path, 1).run(None, dict(image=images[0]))[0]
        for path in (source, whole)
    )
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize('fast', [True, False])
def test_nncf(network, tmp_path, fast):
    for package in ('openvino', 'nncf'):
        pytest.importorskip(package)
    source, images = network
    path = tmp_path / 'int8.xml'
    quantize_nncf(source, path, images, fast)
    assert 'FakeQuantize' in path.read_text()
    exact, found = (openvino_model(x, 1)(images[0])[0] for x in (source, path))
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
