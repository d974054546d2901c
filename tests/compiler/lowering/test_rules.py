"""How rules are registered."""

import torch
from torch import nn

from aqd_mmdet.compiler.lowering import rules
from aqd_mmdet.layers import KINDS


def test_classes_are_layers_and_others_are_operators(monkeypatch):
    layers: dict = {}
    operators: dict = {}
    monkeypatch.setattr(rules, 'LAYER_RULES', layers)
    monkeypatch.setattr(rules, 'OPERATOR_RULES', operators)
    relu = torch.ops.aten.relu.default

    @rules.lowers(nn.ReLU, relu)
    def rule() -> None:
        pass

    assert layers == {nn.ReLU: rule}
    assert operators == {relu: rule}


def test_every_rule_of_a_layer_has_a_file():
    assert len(rules.LAYER_RULES) >= len(KINDS)
    for layer, rule in rules.LAYER_RULES.items():
        assert layer.__module__.startswith('aqd_mmdet.')
        assert rule.__module__.startswith('aqd_mmdet.compiler.lowering.')
