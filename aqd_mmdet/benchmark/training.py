"""What a step of quantised training costs, beside float and other libraries.

Each variant of a detector is a process of its own, so that each has its own
memory; they take turns.
"""

import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..engine import launch, preflight
from ..engine.calibration import calibrate
from ..errors import UserError
from ..files import write_all
from ..models.quantized_detector import detector_of
from ..quantizers import arithmetic
from ..quantizers.start import mse_clip
from .machine import Machine, describe
from .training_variants import Variant, use_layers
from .worker import REST_S, peak_memory

# Steps before the first measured one: optimiser states are made, memory grows
# to its size.
WARM_UP = 3
COLUMNS = ('training', 'ms a step', 'least', 'x float', 'MiB', 'x float')


@dataclass(frozen=True)
class Steps:
    """What was measured of one variant.

    Attributes:
        name: Of the variant.
        seconds: Of each turn, the mean of its steps.
        peak: Peak memory of the training in bytes: on a GPU what PyTorch
            allocated, else what the process has more than it had before it
            built the detector.
    """

    name: str
    seconds: tuple[float, ...]
    peak: int


@dataclass(frozen=True)
class Found:
    """A comparison.

    Attributes:
        machine, device: Where it ran.
        config: Name of the config.
        batch: Images in a step.
        threads: Of each process.
        steps: What was measured; float first.
    """

    machine: Machine
    device: str
    config: str
    batch: int
    threads: int
    steps: tuple[Steps, ...]


@dataclass(frozen=True)
class Job:
    """What all variants have in common.

    Attributes:
        config: File of the config, which has ``model.bits``.
        options: Overrides of it, by dotted keys.
        threads: Of each process.
        folder: For what runners write.
    """

    config: str
    options: dict[str, Any]
    threads: int
    folder: str


class _Training:
    """A detector in training on one batch, again and again."""

    def __init__(self, job: 'Job', variant: Variant) -> None:
        folder = str(Path(job.folder, variant.name))
        command = [job.config, '--work-dir', folder]
        args = launch.parser('').parse_args(command)
        args.cfg_options = {**job.options, 'model.bits': variant.bits}
        cfg = launch.read_config(args)
        preflight.check_data(cfg, ['train'])
        for key in ('val', 'test'):
            for part in ('cfg', 'dataloader', 'evaluator'):
                cfg[f'{key}_{part}'] = None
        cfg.default_hooks = {}
        cfg.train_dataloader.num_workers = 0
        cfg.train_dataloader.persistent_workers = False
        runner = launch.build_runner(cfg)
        loader: Any = runner.build_dataloader(cfg.train_dataloader)
        self.batch = next(iter(loader))
        self.model: Any = runner.model
        detector = detector_of(self.model)
        if variant.bits != 'float':
            prepared = self.model.data_preprocessor(self.batch, True)
            calibrate(detector, [prepared], mse_clip)
        if variant.library != 'ours':
            device = next(detector.parameters()).device
            use_layers(detector, variant.library)
            detector.to(device)
        self.model.train()
        self.optim: Any = runner.build_optim_wrapper(runner.optim_wrapper)

    def step(self) -> None:
        """Take one step."""
        self.model.train_step(self.batch, optim_wrapper=self.optim)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _work(pipe: Any, job: Job, variant: Variant) -> None:
    """Answer, in a process of its own, the seconds of each step asked for.

    The first answer is the number of images, the last the peak memory. A
    user's mistake is answered as it is.
    """
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(job.threads)
    # Loaded for all, so that its memory is nobody's.
    import_module('torch._inductor.compile_fx')
    before = peak_memory()
    try:
        training = _Training(job, variant)
    except UserError as error:
        pipe.send(error)
        return
    with arithmetic.compiled():
        for _ in range(WARM_UP):
            training.step()
        pipe.send(len(training.batch['inputs']))
        while pipe.recv():
            _synchronize()
            begin = time.perf_counter()
            training.step()
            _synchronize()
            pipe.send(time.perf_counter() - begin)
    on_gpu = torch.cuda.is_available()
    used = torch.cuda.max_memory_allocated if on_gpu else peak_memory
    pipe.send(used() - (0 if on_gpu else before))


class _Worker:
    """A variant's process.

    Args:
        job, variant: What it does.
    """

    def __init__(self, job: Job, variant: Variant) -> None:
        context = get_context('spawn')
        self.name = variant.name
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, job, variant), daemon=True
        )
        self.process.start()
        theirs.close()
        self.batch = self._answer()

    def _answer(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise UserError(
                f'{self.name}: its process ended; the reason is above'
            ) from None
        if isinstance(answer, UserError):
            raise answer
        return answer

    def step(self) -> float:
        """Return the seconds of a step."""
        time.sleep(REST_S)
        self.pipe.send(True)
        return self._answer()

    def end(self) -> int:
        """Return the peak memory in bytes; the process ends."""
        self.pipe.send(False)
        peak = self._answer()
        self.process.join()
        return peak


def compare(
    config: Path,
    options: dict[str, Any],
    variants: Sequence[Variant],
    threads: int,
    rounds: int,
    done: Callable[[], Any],
) -> Found:
    """Measure steps of training, the variants in turns.

    Args:
        config: Config with ``model.bits``.
        options: Overrides of it, by dotted keys.
        variants: What to compare; float is the first.
        threads: Of each.
        rounds: Turns.
        done: Called after each turn of each variant.

    Raises:
        UserError: If the config or its data are not valid.
    """
    with TemporaryDirectory() as folder:
        job = Job(str(config), options, threads, folder)
        workers = [_Worker(job, variant) for variant in variants]
        times: list[list[float]] = [[] for _ in workers]
        for _ in range(rounds):
            for worker, seconds in zip(workers, times, strict=True):
                seconds.append(worker.step())
                done()
        steps = tuple(
            Steps(worker.name, tuple(seconds), worker.end())
            for worker, seconds in zip(workers, times, strict=True)
        )
    on_gpu = torch.cuda.is_available()
    return Found(
        describe(),
        torch.cuda.get_device_name() if on_gpu else 'CPU',
        config.stem,
        workers[0].batch,
        threads,
        steps,
    )


def _cells(found: Steps, base: Steps) -> list[str]:
    middle, least = median(found.seconds), min(found.seconds)
    return [
        found.name,
        f'{middle * 1e3:.0f}',
        f'{least * 1e3:.0f}',
        f'{least / min(base.seconds):.2f}',
        f'{found.peak / 2**20:.0f}',
        f'{found.peak / base.peak:.2f}',
    ]


def document(found: Found) -> str:
    """Return the table as Markdown."""
    lines = [
        f'{found.config}, batches of {found.batch}; {found.device}, '
        f'{found.machine.processor}, threads: {found.threads}; '
        f'{len(found.steps[0].seconds)} turns of one step. Ratios of time are '
        'of the least ones.',
        '',
        f'| {" | ".join(COLUMNS)} |',
        f'|---|{"---:|" * (len(COLUMNS) - 1)}',
    ]
    base = found.steps[0]
    lines += [f'| {" | ".join(_cells(s, base))} |' for s in found.steps]
    return '\n'.join([*lines, ''])


def write(found: Found, folder: Path) -> list[Path]:
    """Write a comparison as JSON and Markdown and return the paths.

    Args:
        found: The comparison.
        folder: Folder of the files, which is made. Earlier files are replaced.
    """
    contents = {
        'training.json': json.dumps(asdict(found), indent=1).encode(),
        'training.md': document(found).encode(),
    }
    return write_all(folder, contents)
