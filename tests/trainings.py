"""Short trainings on the embedded dataset, for tests of what they make."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from aqd_mmdet.engine import launch
from tests.factories import data_options, digits_config

SMALL = (64, 64)


def config(digits: Path, work_dir: Path, **changes: Any) -> Config:
    """A training of three steps on small pictures, validated at its end."""
    cfg = digits_config('2bit')
    pairs = (option.split('=') for option in data_options(digits))
    cfg.merge_from_dict({key: value_of(text) for key, text in pairs})
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'load_from': None,
            'train_cfg.max_epochs': 1,
            'train_cfg.val_interval': 1,
            'randomness': dict(seed=3),
            'default_hooks.calibration.batches': 2,
            'log_level': 'WARNING',
            'experiment_name': work_dir.name,
            **changes,
        }
    )
    for split in ('train', 'val', 'test'):
        for transform in cfg[f'{split}_dataloader'].dataset.pipeline:
            for key in ('scale', 'crop_size', 'size'):
                if key in transform:
                    transform[key] = SMALL
    return cfg


def value_of(text: str) -> Any:
    """What an option stands for on the command line."""
    return int(text) if text.isdigit() else {'False': False}.get(text, text)


def train(cfg: Config) -> Runner:
    runner = launch.build_runner(cfg)
    runner.train()
    return runner
