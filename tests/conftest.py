"""Fixtures: the embedded dataset, small, and detectors of its configs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.datasets import DigitScenes, write_digits
from aqd_mmdet.engine import calibration, checkpoint
from aqd_mmdet.layers import batch_norm
from aqd_mmdet.quantizers import Quantizer

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / 'configs'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, while others run beside it."""
    items.sort(key=lambda item: 'test_end_to_end' not in item.nodeid)


@pytest.fixture(autouse=True, scope='session')
def _registered() -> None:
    """For fixtures of whole modules, which come before those of tests."""
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


def digits_config(bits: str = '2bit', detector: str = 'retinanet') -> Config:
    """The config of a small detector on digits."""
    return Config.fromfile(CONFIGS / f'digits/{detector}_digits_{bits}.py')


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


def data_options(digits: Path) -> list[str]:
    """Overrides that point a digits config at a dataset, without workers."""
    options = [
        f'val_evaluator.ann_file={digits}/val.json',
        f'test_evaluator.ann_file={digits}/val.json',
    ]
    for split in ('train', 'val', 'test'):
        options += [
            f'{split}_dataloader.dataset.data_root={digits}/',
            f'{split}_dataloader.num_workers=0',
        ]
    return options


def run_tool(
    *arguments: object, timeout: float = 300
) -> subprocess.CompletedProcess:
    """Run a tool as a user would, on one core."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def error_line(result: subprocess.CompletedProcess) -> str:
    """Return the one line that a user's mistake gives, and check that it is
    one."""
    assert result.returncode == 2, result.stderr[-2000:]
    assert 'Traceback' not in result.stderr
    lines = [x for x in result.stderr.splitlines() if x.startswith('error: ')]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the package writes to the log."""
    lines: list[str] = []
    for module in (batch_norm, calibration, checkpoint):
        monkeypatch.setattr(
            module, 'print_log', lambda text, **options: lines.append(text)
        )
    return lines


def started(module: nn.Module) -> nn.Module:
    """Let all quantisers of a module have the published start, 1."""
    for each in module.modules():
        if isinstance(each, Quantizer):
            each.started.fill_(True)
    return module
