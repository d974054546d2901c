"""Which engines the benchmark runs on a machine."""

import os

import pytest

from aqd_mmdet.benchmark import engines
from aqd_mmdet.errors import UserError


def test_instruction_sets_do_not_depend_on_the_environment(monkeypatch):
    monkeypatch.setenv('AQD_ISA', 'portable')
    assert engines.instruction_sets()[-1] == 'portable'
    assert os.environ['AQD_ISA'] == 'portable'


def test_peer_without_tiles_needs_a_machine_with_tiles():
    names = [
        {engine.name for engine in engines.all_engines(['portable'], flags)}
        for flags in (set(), {'amx_int8'})
    ]
    assert names[1] - names[0] == {'openvino-int8-avx512'}


def test_best_instruction_set_is_measured_once():
    specs = engines.all_engines(['amx', 'avx512', 'portable'], set())
    assert [spec.name for spec in specs if spec.is_ours] == [
        'aqd-8',
        'aqd-4',
        'aqd-3',
        'aqd-2',
        'aqd-8-avx512',
        'aqd-2-avx512',
        'aqd-8-portable',
    ]


def test_openvino_is_held_to_each_other_set():
    specs = engines.all_engines(['avx512', 'avx2', 'portable'], set())
    held = {spec.name: spec for spec in specs if spec.instructions}
    assert {name: spec.instructions for name, spec in held.items()} == {
        'aqd-8-avx2': 'avx2',
        'aqd-2-avx2': 'avx2',
        'aqd-8-portable': 'portable',
        'openvino-int8-avx2': 'avx2',
    }
    peer = held['openvino-int8-avx2']
    assert peer.environment == {'ONEDNN_MAX_CPU_ISA': 'AVX2'}
    assert peer.title == 'OpenVINO int8, AVX2'


def test_missing_package(monkeypatch):
    monkeypatch.setattr(
        engines, 'find_spec', lambda name: None if name == 'onnx' else name
    )
    specs = engines.all_engines(['portable'], set())
    without_onnx = [x for x in specs if x.library in ('aqd', 'pytorch')]
    engines.need_packages(without_onnx, True)
    with pytest.raises(UserError, match='^onnx is not installed: .*benchmark'):
        engines.need_packages(specs, False)
