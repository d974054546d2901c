"""From a command line to a runner: what tools/train.py and test.py share."""

import argparse
import atexit
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from . import preflight


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of mmdet's tools that both share.

    Args:
        description: What the tool does.
    """
    result = argparse.ArgumentParser(description=description)
    result.add_argument('config', help='config file')
    result.add_argument(
        '--work-dir', help='folder for logs, checkpoints and results'
    )
    result.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides of the config, as in key=value or key="[a,b]"',
    )
    result.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes it with a hyphen.
    result.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return result


def read_config(args: argparse.Namespace) -> Config:
    """Return the config of a command line, adapted to the machine.

    Args:
        args: What :func:`parser` parsed.

    Raises:
        UserError: If the config is missing or not valid.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    register_all_modules(init_default_scope=False)
    cfg = preflight.read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    preflight.use_whole_images(cfg)
    if not torch.cuda.is_available():
        _use_cpu(cfg)
    return cfg


def _use_cpu(cfg: Config) -> None:
    """Let distributed runs work without a GPU, which mmengine's do not."""
    # PyTorch has these for GPUs only.
    cfg.pop('sync_bn', None)
    replace_sync_bn(cfg.model)
    if cfg.launcher == 'none':
        return
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    if cfg.launcher == 'pytorch' and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')


def replace_sync_bn(cfg: Any) -> None:
    """Let norms be BN where a part of a config asks for SyncBN.

    Args:
        cfg: Dict or list, changed in place.
    """
    if isinstance(cfg, dict):
        if cfg.get('type') == 'SyncBN':
            cfg['type'] = 'BN'
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for child in cfg:
            replace_sync_bn(child)


def build_runner(cfg: Config) -> Runner:
    """Return the runner of a config, its space on the disk checked.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If the work_dir cannot hold the run's checkpoints.
    """
    if is_main_process():
        preflight.make_work_dir(Path(cfg.work_dir))
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def leave() -> None:
    """End a process of a distributed run by gloo, its work being done.

    A thread of gloo may still hold the tensors of the last collective. If it
    lets go of them while Python is being torn down, PyTorch aborts the
    process; so what has to happen at exit happens, but nothing is torn down.
    """
    distributed = torch.distributed
    if distributed.is_initialized() and distributed.get_backend() == 'gloo':
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
