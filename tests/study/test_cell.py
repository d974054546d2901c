"""What a cell tests: the weights that a checkpoint of its training has."""

import pytest
import torch

from aqd_mmdet.engine.checkpoint import read_checkpoint, state_dict_of
from aqd_mmdet.errors import UserError
from aqd_mmdet.study.cell import (
    WEIGHTS,
    check_libraries,
    keep_weights,
    run_cell,
)
from aqd_mmdet.study.plan import read_results, read_study
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


STUDY = """
data = ['cell']
seed = [0]
model = ['a']
training = [dict(bits='float', schedule='scratch'), dict(bits=2, recipe='b')]
config = '{model}_{data}.py'
schedules = dict(scratch={}, finetune={})
recipes = dict(default={}, b=dict(library='lsq'))
"""


@pytest.fixture
def study(digits, tmp_path):
    config(digits, tmp_path).dump(tmp_path / 'a_cell.py')
    path = tmp_path / 'study.py'
    path.write_text(STUDY)
    return path


@pytest.mark.slow
def test_layers_of_others_start_from_the_float_detector(study, tmp_path):
    cells, results = read_study(study).cells, tmp_path / 'results.jsonl'
    for cell in cells:
        (tmp_path / cell.name).mkdir()
        run_cell(read_study(study), cell, tmp_path, results)
    first, second = read_results(results).values()
    assert first['simulation'] is None
    # Nothing of it is compiled.
    assert second['simulation'] == second['metrics']
    assert not (tmp_path / cells[1].name / 'model.aqd').exists()
    assert second['options']['library'] == 'lsq'
    state = state_dict_of(read_checkpoint(tmp_path / cells[1].name / WEIGHTS))
    assert 'backbone.layer1.0.conv1.scales' in state
    assert 'backbone.conv1.weight_quantizer.clip' in state


def test_an_unknown_library_is_an_error(study):
    study.write_text(STUDY.replace("'lsq'", "'lqs'"))
    read = read_study(study)
    message = "recipe b: no library is called 'lqs' .*'?lsq"
    with pytest.raises(UserError, match=message):
        check_libraries(read, read.cells)
