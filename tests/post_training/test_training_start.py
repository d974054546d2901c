"""A config of a quantised detector, to train from."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from aqd_mmdet.post_training.training_start import training_config
from tests.factories import CONFIGS


@pytest.mark.parametrize('imports', ['mine', ['mine']])
def test_imports_of_a_config_stay(imports):
    """mmengine takes the name of a single module by itself, too."""
    hooks = Config.fromfile(CONFIGS / '_base_/aqd_hooks.py')
    cfg = Config(
        dict(model=dict(type='FCOS'), custom_imports=dict(imports=imports))
    )
    student = SimpleNamespace(data_preprocessor=None)
    found = training_config(cfg, hooks, student, [])
    assert found.custom_imports.imports == [
        'mine',
        *hooks.custom_imports.imports,
    ]
