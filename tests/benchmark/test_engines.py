"""Which engines there are on a machine."""

import os

import pytest

from aqd_mmdet.benchmark import engines
from aqd_mmdet.errors import UserError


def test_sets_are_the_engine_s(monkeypatch):
    monkeypatch.setenv('AQD_ISA', 'portable')
    assert engines.instruction_sets()[-1] == 'portable'
    assert os.environ['AQD_ISA'] == 'portable'


def test_capped_peer_is_of_machines_with_tiles():
    names = [
        {engine.name for engine in engines.all_engines(['portable'], flags)}
        for flags in (set(), {'amx_int8'})
    ]
    assert names[1] - names[0] == {'openvino-int8-avx512'}


def test_the_best_set_is_measured_once():
    found = engines.all_engines(['amx', 'avx512', 'portable'], set())
    ours = [engine.name for engine in found if engine.is_ours]
    assert ours == [
        'aqd-8',
        'aqd-4',
        'aqd-3',
        'aqd-2',
        'aqd-8-avx512',
        'aqd-2-avx512',
        'aqd-8-portable',
    ]


def test_missing_package(monkeypatch):
    monkeypatch.setattr(
        engines, 'find_spec', lambda name: None if name == 'onnx' else name
    )
    found = engines.all_engines(['portable'], set())
    ours = [x for x in found if x.library in ('aqd', 'pytorch')]
    engines.need_packages(ours, True)
    with pytest.raises(UserError, match='^onnx is not installed: .*benchmark'):
        engines.need_packages(found, False)
