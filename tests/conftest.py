"""Fixtures: a small embedded dataset and detectors of the digits configs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.datasets import DigitScenes, write_digits
from aqd_mmdet.engine import calibration, checkpoint
from aqd_mmdet.layers import batch_norm
from tests.factories import Compiled, compile_narrow, digits_config
from tests.installed import Installed, install

# Files of minutes, the longest first. tools/test.sh gives out files in this
# order, so that no process is left alone with one of them at the end.
LONG = (
    'system/test_end_to_end.py',
    'system/test_networks.py',
    'runtime/test_cross.py',
    'system/test_readme.py',
    'tools/test_mim.py',
    'system/test_two_stage.py',
    'system/test_training.py',
    'system/test_refusals.py',
    'runtime/test_threads.py',
    'runtime/test_library.py',
    'runtime/test_wheel.py',
    'runtime/test_sanitizers.py',
    'tools/test_quantize.py',
    'tools/test_compare_quantizers.py',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, and the others in their order."""
    rank = {f'tests/{name}': place for place, name in enumerate(LONG)}
    items.sort(
        key=lambda item: rank.get(item.nodeid.split('::')[0], len(rank))
    )


@pytest.fixture(autouse=True, scope='session')
def _registered() -> None:
    """Register mmdet's modules before the fixtures of modules need them."""
    register_all_modules()


@pytest.fixture(autouse=True)
def _modules() -> None:
    register_all_modules()
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small embedded dataset: 24 + 9 images."""
    root = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(root, DigitScenes(train=24, val=9))
    return root


@pytest.fixture(scope='session')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """This package's wheel in an environment of its own."""
    return install(tmp_path_factory.mktemp('installed'))


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """Builds a small detector; keywords override its model config."""

    def make(
        bits: object = 2, detector: str = 'retinanet', **changes: object
    ) -> nn.Module:
        cfg = digits_config('fp', detector)
        cfg.merge_from_dict({'model.bits': bits})
        cfg.model.update(changes)
        return MODELS.build(cfg.model)

    return make


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that the package writes to the log."""
    lines: list[str] = []
    for module in (batch_norm, calibration, checkpoint):
        monkeypatch.setattr(
            module, 'print_log', lambda text, **options: lines.append(text)
        )
    return lines


@pytest.fixture
def compiled() -> Callable[..., Compiled]:
    """Builds, calibrates and compiles a narrow detector."""
    return compile_narrow
