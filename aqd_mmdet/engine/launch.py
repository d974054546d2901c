"""From a command line to a runner or a detector: what the tools share."""

import argparse
import atexit
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from ..config import check_types, datasets_of, labels_of, write_apart
from ..config import read_config as read_config_file
from ..errors import UserError, first_line, nearest
from . import preflight
from .checkpoint import (
    check_checkpoint,
    downloaded,
    read_checkpoint,
    state_dict_of,
    use_safe_loader,
)
from .overrides import Overrides
from .training import add_missing_hooks, keep_clips


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
        action=Overrides,
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
    use_safe_loader()
    register_all_modules(init_default_scope=False)
    cfg = read_config_file(args.config, args.cfg_options)
    # What a Runner does: names without a scope are mmdet's.
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    check_options(cfg, args.cfg_options or {})
    check_types(cfg)
    _tell_of_pipelines(cfg)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if cfg.get('compile'):
        raise UserError(
            'compile: quantised detectors are not trained by torch.compile '
            'here; set it to False'
        )
    if cfg.get('efficient_conv_bn_eval'):
        raise UserError(
            'efficient_conv_bn_eval: it would compute with weights that are '
            'not quantised; leave it out'
        )
    preflight.use_whole_images(cfg)
    _use_no_workers(cfg)
    if not torch.cuda.is_available():
        _use_cpu(cfg)
    return cfg


# Keys that mmengine reads of a whole config, beside a runner's arguments.
MORE_KEYS = (
    *('compile', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg'),
    *('activation_checkpointing', 'strategy', 'runner_type', 'tta_model'),
    *('tta_pipeline', 'custom_imports', 'efficient_conv_bn_eval'),
)


def check_options(cfg: Config, options: dict) -> None:
    """Check that overrides of a command line change something.

    Args:
        cfg: The config, overrides merged.
        options: The overrides, by dotted keys.

    Raises:
        UserError: If a key is neither of a runner nor of the config.
    """
    read = [*inspect.signature(Runner).parameters, *MORE_KEYS]
    for option in options:
        key = option.split('.')[0]
        if key in read:
            continue
        if key not in variables_of(cfg):
            raise UserError(
                f'--cfg-options {option}: neither the config nor a runner has '
                f'a {key!r} ({nearest(key, read)})'
            )
        _warn(
            f'--cfg-options {option}: {key} is a variable of the config file, '
            'whose text has used it before: what was made of it stays. '
            'Override that, as in train_dataloader.dataset.data_root'
        )


def variables_of(cfg: Config) -> set[str]:
    """Return the top-level names that a config file and its bases have."""
    if cfg.filename is None:
        return set(cfg)
    return set(Config.fromfile(cfg.filename))


def _tell_of_pipelines(cfg: Config) -> None:
    """Say where a pipeline of a config's text is not the one that is used."""
    for split in ('train', 'val', 'test'):
        written = cfg.get(f'{split}_pipeline')
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if written is None or dataset is None:
            continue
        used = [dataset.get('pipeline')]
        used += [d.get('pipeline') for _, d in datasets_of(dataset, '')]
        if _without_scopes(written) not in map(_without_scopes, used):
            _warn(
                f'{split}_pipeline of the config is not the pipeline of '
                f'{split}_dataloader, which is the one that is used'
            )


def _without_scopes(node: Any) -> Any:
    """Return a part of a config without what mmengine notes of its base.

    Of a config of another package (``mmdet::``) it gives each dict of its
    variables a scope, but not those that it was made of.
    """
    if isinstance(node, dict):
        return {
            key: _without_scopes(x)
            for key, x in node.items()
            if key != '_scope_'
        }
    if isinstance(node, (list, tuple)):
        return [_without_scopes(x) for x in node]
    return node


def _warn(text: str) -> None:
    if is_main_process():
        print(f'warning: {text}', file=sys.stderr, flush=True)


def _use_no_workers(cfg: Config) -> None:
    """Let a data loader without workers be, whatever its base had."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader is not None and not loader.get('num_workers'):
            for key in ('persistent_workers', 'prefetch_factor', 'timeout'):
                loader.pop(key, None)


def latest_checkpoint(work_dir: str) -> str | None:
    """Return the file that a run in a folder goes on from.

    mmengine keeps its whole path, which is another run's where the folder
    was copied or moved.

    Args:
        work_dir: The folder.

    Returns:
        str: The path; None if nothing was saved yet.

    Raises:
        UserError: If the folder names a file that is not in it.
    """
    note = Path(work_dir, 'last_checkpoint')
    if not note.is_file():
        return None
    path = Path(work_dir, Path(note.read_text().strip()).name)
    if not path.exists():
        raise UserError(
            f'work_dir {work_dir}: its last checkpoint {path.name} is not '
            'there: give --resume a file, or remove last_checkpoint to begin '
            'anew'
        )
    return str(path)


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


def use_tta(cfg: Config) -> None:
    """Let a config's test see each image several times, as mmdet's --tta does.

    Args:
        cfg: The whole config, changed in place. Without a ``tta_model`` and a
            ``tta_pipeline`` images are seen as they are and flipped.
    """
    cfg.setdefault(
        'tta_model',
        dict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
            ),
        ),
    )
    write_apart(cfg, 'tta')
    where = 'test_dataloader.dataset'
    datasets = [d for _, d in datasets_of(cfg.test_dataloader.dataset, where)]
    if 'tta_pipeline' not in cfg:
        pack = dict(
            type='PackDetInputs',
            meta_keys=(
                *('img_id', 'img_path', 'ori_shape', 'img_shape'),
                *('scale_factor', 'flip', 'flip_direction'),
            ),
        )
        flips = [dict(type='RandomFlip', prob=float(p)) for p in (1, 0)]
        cfg.tta_pipeline = [
            *datasets[0].pipeline[:-1],
            dict(type='TestTimeAug', transforms=[flips, [pack]]),
        ]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline


def load_weights(detector: nn.Module, cfg: Config, checkpoint: str) -> None:
    """Load a checkpoint into a detector.

    Args:
        detector: The config's, as it was built.
        cfg: The whole config.
        checkpoint: File of the weights, or its URL.

    Raises:
        UserError: If the checkpoint is of another detector, its classes are
            not the config's, or it cannot be downloaded.
    """
    checkpoint = downloaded(checkpoint)
    labels = labels_of(cfg, 'test')
    check_checkpoint(checkpoint, detector, for_training=False, labels=labels)
    preflight.check_label_order(cfg, 'test')
    detector.load_state_dict(state_dict_of(read_checkpoint(checkpoint)))


@contextmanager
def _mistakes_in(cfg: Config) -> Iterator[None]:
    """Tell in one line what a class says of arguments that it does not have.

    Args:
        cfg: The config that has them.
    """
    try:
        yield
    except UserError:
        raise
    except (TypeError, KeyError, ValueError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(
            f'config {cfg.filename}: {type(error).__name__}: {reason}'
        ) from error


def build_detector(cfg: Config) -> nn.Module:
    """Return the detector of a config, for evaluation.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If it has arguments that its classes do not have.
    """
    with _mistakes_in(cfg):
        return MODELS.build(cfg.model).eval()


def build_optimizer(runner: Runner) -> None:
    """Build the optimiser, which a runner does when it trains.

    Its schedules are built then, of the rate that the runner scales first.

    Args:
        runner: Its ``optim_wrapper`` is replaced, and mistakes of its
            schedules will be errors in one line as well.

    Raises:
        UserError: If it has arguments that its class does not have.
    """
    with _mistakes_in(runner.cfg):
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    own: Any = runner
    own.build_param_scheduler = _mistakes_in(runner.cfg)(
        runner.build_param_scheduler
    )


def build_runner(cfg: Config) -> Runner:
    """Return the runner of a config, its space on the disk checked.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If the work_dir cannot hold the run's checkpoints.
    """
    if is_main_process():
        preflight.make_work_dir(Path(cfg.work_dir))
    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    with _mistakes_in(cfg):
        runner = build(cfg)
        add_missing_hooks(runner)
        keep_clips(runner)
    return runner


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
