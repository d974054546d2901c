"""What a cell tests: the weights that a checkpoint of its training has."""

import pytest
import torch

from aqd_mmdet.engine.checkpoint import read_checkpoint, state_dict_of
from aqd_mmdet.study.cell import WEIGHTS, keep_weights
from tests.trainings import config, train


@pytest.mark.slow
def test_averaged_weights_are_kept(digits, tmp_path):
    cfg = config(digits, tmp_path)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.5)]
    runner = train(cfg)
    last = {k: x.clone() for k, x in runner.model.state_dict().items()}
    keep_weights(runner, tmp_path / WEIGHTS)
    averaged = state_dict_of(read_checkpoint(tmp_path / 'epoch_1.pth'))
    kept = state_dict_of(read_checkpoint(tmp_path / WEIGHTS))
    for name, x in runner.model.state_dict().items():
        assert torch.equal(x, averaged[name])
        assert torch.equal(x, kept[name])
    clip = 'backbone.layer1.0.conv1.input_quantizer.clip'
    assert not torch.equal(last[clip], averaged[clip])
