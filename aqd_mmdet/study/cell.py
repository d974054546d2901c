"""Trains and tests one cell of a study, in a process of its own."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from .. import __version__
from ..benchmark.accuracy import build_dataset, detect_by_program
from ..benchmark.engines import need
from ..benchmark.training_variants import PACKAGES, use_layers
from ..compiler.compile import compile_detector
from ..engine import launch, preflight
from ..engine.checkpoint import (
    check_checkpoint,
    read_checkpoint,
    state_dict_of,
)
from ..engine.integer_aware import IntegerAwareHook
from ..errors import UserError, nearest
from ..models.quantized_detector import (
    detector_of,
    quantized_layers,
)
from ..program import file
from .plan import LIBRARY, Cell, Study

METRICS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
WEIGHTS = 'last.pth'
VERSIONS = ('torch', 'onedl-mmdetection', 'mmdet', 'numpy', 'brevitas')


def run_cell(study: Study, cell: Cell, folder: Path, results: Path) -> None:
    """Train and test a cell, then add a line to the file of results.

    Args:
        study: The study.
        cell: One of its cells.
        folder: The study's; the cell gets a folder of its own there, with
            log, weights and compiled detector.
        results: File of results.

    Raises:
        UserError: If the config or what the cell starts from is not valid.
    """
    own, start = folder / cell.name, study.start_of(cell)
    cfg = _config(study, cell, folder)
    begin = time.perf_counter()
    runner = launch.build_runner(cfg)
    if cfg.load_from:
        check_checkpoint(cfg.load_from, runner.model, for_training=True)
    library = study.options_of(cell).get(LIBRARY, 'ours')
    if library != 'ours':
        use_layers(detector_of(runner.model), library)
    runner.train()
    seconds = dict(train=time.perf_counter() - begin)
    times = runner.message_hub.get_scalar('train/time').data[0]
    seconds['step'] = float(np.median(times))
    keep_weights(runner, own / WEIGHTS)
    found, simulation = _measured(runner, cfg, own, library, seconds)
    line = json.dumps(
        dict(
            cell=cell.name,
            **asdict(cell),
            config=study.config_of(cell).name,
            options=study.options_of(cell),
            start=start and start.name,
            steps=runner.max_iters,
            metrics=found,
            simulation=simulation,
            seconds={name: round(x, 3) for name, x in seconds.items()},
            **_machine(),
        )
    )
    with results.open('a') as lines:
        lines.write(f'{line}\n')


def _measured(
    runner: Runner,
    cfg: Config,
    own: Path,
    library: str,
    seconds: dict[str, float],
) -> tuple[dict[str, float], dict[str, float] | None]:
    """Return the metrics of what ships, and of its simulation.

    Args:
        runner: The training, at its end.
        cfg: The whole config.
        own: Folder for the compiled detector.
        library: Whose layers were trained.
        seconds: Gets the durations of tests and of compiling.
    """
    begin = time.perf_counter()
    found = _tested(runner)
    seconds['test'] = time.perf_counter() - begin
    if library != 'ours':
        return found, found  # their layers are not compiled
    if not quantized_layers(detector_of(runner.model)):
        return found, None
    begin = time.perf_counter()
    path = _compiled(runner, cfg, own)
    seconds['compile'] = time.perf_counter() - begin
    return _executed(runner, cfg, path), found


def check_libraries(study: Study, cells: Sequence[Cell]) -> None:
    """Check that the libraries are here whose layers cells train.

    Args:
        study: The study.
        cells: Cells that are to run.

    Raises:
        UserError: If one is unknown, or not installed.
    """
    for cell in cells:
        library = study.options_of(cell).get(LIBRARY, 'ours')
        if library not in PACKAGES:
            raise UserError(
                f'study {study.path}: recipe {cell.recipe}: no library is '
                f'called {library!r} ({nearest(library, PACKAGES)})'
            )
        need(PACKAGES[library], 'choose other --cells')


def keep_weights(runner: Runner, path: Path) -> None:
    """Write the weights as a checkpoint has them, and go on with those.

    A hook may put others there than those of the last step, as EMAHook does
    with an average.

    Args:
        runner: The training, at its end.
        path: File to write.
    """
    runner.save_checkpoint(
        str(path.parent),
        path.name,
        save_optimizer=False,
        save_param_scheduler=False,
        by_epoch=False,
    )
    runner.model.load_state_dict(state_dict_of(read_checkpoint(str(path))))


def _config(study: Study, cell: Cell, folder: Path) -> Config:
    """Return the whole config of a cell."""
    command = [str(study.config_of(cell)), '--work-dir']
    args = launch.parser('').parse_args([*command, str(folder / cell.name)])
    args.cfg_options = study.options_of(cell)
    args.cfg_options.pop(LIBRARY, None)
    start = study.start_of(cell)
    if start is not None:
        args.cfg_options['load_from'] = str(folder / start.name / WEIGHTS)
    cfg = launch.read_config(args)
    preflight.check_data(cfg, ['train', 'test'])
    # Tested once, at the end.
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def _tested(runner: Runner) -> dict[str, float]:
    """Return the metrics of the float network, quantisers simulated."""
    hooks: Any = runner.hooks
    for hook in [h for h in hooks if isinstance(h, IntegerAwareHook)]:
        hooks.remove(hook)
    return _metrics(runner.test())


def _compiled(runner: Runner, cfg: Config, folder: Path) -> Path:
    """Write the compiled detector and return its file."""
    detector = detector_of(runner.model).cpu().eval()
    compilation = compile_detector(detector, cfg, lambda text: None)
    path = folder / 'model.aqd'
    file.save(compilation.compiled, path)
    return path


def _executed(runner: Runner, cfg: Config, path: Path) -> dict[str, float]:
    """Return the metrics of a program that the engine runs, from files."""
    dataset = build_dataset(cfg)
    detect = detect_by_program(dataset, path, threads=1)
    evaluator = runner.test_evaluator
    for index in range(len(dataset)):
        found, info = detect(index), dataset.get_data_info(index)
        sample = dict(
            img_id=info['img_id'],
            ori_shape=(info['height'], info['width']),
            pred_instances=InstanceData(
                bboxes=torch.from_numpy(found.boxes),
                labels=torch.from_numpy(found.labels),
                scores=torch.from_numpy(found.scores),
            ),
        )
        evaluator.process([sample])
    return _metrics(evaluator.evaluate(len(dataset)))


def _metrics(found: dict[str, float]) -> dict[str, float]:
    # mmdet gives no numbers where nothing was found.
    return {name: found.get(f'coco/bbox_{name}', 0.0) for name in METRICS}


def _commit() -> str | None:
    """Return the commit of this package's source, if there is one."""
    command = ['git', '-C', str(Path(__file__).parent), 'rev-parse', 'HEAD']
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return found.stdout.strip()[:7] or None


def _machine() -> dict[str, Any]:
    """Return commit, versions of packages, and where they run."""
    versions = dict(aqd_mmdet=__version__, python=platform.python_version())
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else 'cpu'
    return dict(versions=versions, device=device, commit=_commit())


def run_logged(study: Study, cell: Cell, folder: Path, results: Path) -> None:
    """Run a cell; its output goes to ``log.txt`` in the cell's folder."""
    own = folder / cell.name
    own.mkdir(parents=True, exist_ok=True)
    with (own / 'log.txt').open('w') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '0')) or 1)
    run_cell(study, cell, folder, results)
