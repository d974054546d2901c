"""Quantisation such that a program fits a size or a time."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import ceil
from time import thread_time
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..compiler.compile import compile_detector
from ..errors import UserError
from ..layers.weighted import ConvOptions
from ..program import file
from ..program.detector import CompiledDetector
from ..progress import progress
from ..runtime import Detector
from ..runtime.engine import library
from .calibration import run
from .quantize import Quantized, quantize
from .sensitivity import output_noise
from .widths import (
    Option,
    choose_widths,
    options_of_layers,
    total_cost,
    with_widths,
)

# Each width that is tried costs a quantisation. 7 bits save an eighth only.
WIDTHS = (8, 6, 5, 4, 3, 2)
# Pictures that a width is tried with, and those that the noise of layers is
# measured with: within a fifth, where a bit makes a factor of four.
TRIAL_PICTURES, NOISE_PICTURES = 32, 64
# Runs of each program that the least time is taken of.
ROUNDS = 30
# Widths whose times differ by a smaller share are taken for equally fast:
# the least times of one program differ by 0.02.
LEAST_GAIN = 0.03
UNITS = {'kB': ('bytes', 1e3), 'MB': ('bytes', 1e6), 'ms': ('ms', 1.0)}


@dataclass(frozen=True)
class Budget:
    """What a program may take.

    Attributes:
        limit: Bytes of the file, or milliseconds that the engine takes from
            an image to boxes, on one thread of this machine.
        unit: ``'bytes'`` or ``'ms'``.
        text: As it was given, for messages.
    """

    limit: float
    unit: str
    text: str = field(default='', compare=False)

    def shown(self, amount: float) -> str:
        """Return an amount as people read it, rounded up."""
        if self.unit == 'ms':
            return f'{ceil(amount * 100) / 100:.2f}ms'
        return f'{ceil(amount / 1e3) / 1e3:.3f}MB'


def read_budget(text: str) -> Budget:
    """Return the budget that a text such as ``0.5MB`` or ``20ms`` names.

    Raises:
        UserError: If it names none.
    """
    match = re.fullmatch(r'(\d+\.?\d*|\.\d+) ?([a-zA-Z]+)', text)
    if not match or match[2] not in UNITS or not float(match[1]):
        raise UserError(
            f'--budget {text}: expected a number above 0 and one of '
            f'{", ".join(UNITS)}, such as 1.5MB or 20ms'
        )
    unit, factor = UNITS[match[2]]
    return Budget(float(match[1]) * factor, unit, text)


@dataclass(frozen=True)
class Job:
    """A detector to quantise, and how.

    Attributes:
        detector, recipe, pictures, effort, say: As of
            :func:`~.quantize.quantize`; the recipe's widths of weights are
            replaced.
        cfg: The detector's config.
        image: What the engine is timed with, uint8 (height, width, 3).
    """

    detector: nn.Module
    recipe: Sequence[dict[str, Any]]
    pictures: Sequence[Tensor]
    effort: str
    say: Callable[[str], None]
    cfg: Config
    image: np.ndarray

    @cached_property
    def layers(self) -> dict[str, ConvOptions]:
        """How the layers that have weights are quantised, by name."""
        return options_of_layers(self.detector, self.recipe)

    def layer(self, name: str) -> Any:
        """Return one of these layers, float."""
        return self.detector.get_submodule(name)

    def trial(self, bits: int) -> nn.Module:
        """Return the detector with one width for all weights, quantised by
        some of the pictures."""
        self.say(f'trying weights of {bits} bits')
        widths = dict.fromkeys(self.layers, bits)
        return quantize(
            self.detector,
            with_widths(self.recipe, self.layers, widths),
            self.pictures[:TRIAL_PICTURES],
            self.effort,
            lambda text: None,
        ).detector

    def compile(self, student: nn.Module) -> CompiledDetector:
        """Return a quantised detector's program."""
        return compile_detector(student, self.cfg, lambda text: None).compiled


@dataclass(frozen=True)
class Fitted:
    """A quantised detector that fits a budget.

    Attributes:
        recipe: The rules, with a width for each layer.
        quantized: The detector.
        compiled: Its program.
    """

    recipe: list[dict[str, Any]]
    quantized: Quantized
    compiled: CompiledDetector


# Of each layer by name, the costs of its widths.
Costs = Mapping[str, Mapping[int, float]]
# Returns the detector with one width for all weights.
Trial = Callable[[int], nn.Module]


def fit(job: Job, budget: Budget) -> Fitted:
    """Quantise a detector such that its program fits a budget.

    Args:
        job: The detector.
        budget: What the program may take.

    Raises:
        UserError: If no widths fit, with the least that some do.
    """
    trial = cache(job.trial)
    find_costs = _times if budget.unit == 'ms' else _sizes
    costs, fixed = find_costs(job, trial)
    _check_least(costs, fixed, budget)  # before most of the work
    options = _options(job, trial, costs)
    while True:
        _check_least(costs, fixed, budget)
        chosen = choose_widths(options, budget.limit - fixed)
        widths = {name: option.bits for name, option in chosen.items()}
        _say_widths(job, chosen)
        recipe = with_widths(job.recipe, job.layers, widths)
        quantized = quantize(
            job.detector, recipe, job.pictures, job.effort, job.say
        )
        compiled = job.compile(quantized.detector)
        cost = _measure(job, budget, compiled)
        job.say(f'{budget.shown(cost)} of {budget.shown(budget.limit)}')
        if cost <= budget.limit:
            return Fitted(recipe, quantized, compiled)
        # Tables and lists of numbers are longer at some widths.
        fixed = cost - total_cost(chosen)
        job.say('that is more than was expected: choosing again')


def _measure(job: Job, budget: Budget, compiled: CompiledDetector) -> float:
    if budget.unit == 'ms':
        return milliseconds([compiled], job.image)[0]
    return len(file.to_bytes(compiled))


def _say_widths(job: Job, chosen: Mapping[str, Option]) -> None:
    counts = Counter(option.bits for option in chosen.values())
    shown = ', '.join(
        f'{counts[bits]} of {bits} bits' for bits in WIDTHS if counts[bits]
    )
    job.say(f'layers with weights of each width: {shown}')


def _check_least(costs: Costs, fixed: float, budget: Budget) -> None:
    least = fixed + sum(min(each.values()) for each in costs.values())
    if least > budget.limit:
        raise UserError(
            f'--budget {budget.text}: widths of weights cannot meet it; the '
            f'least that they can is {budget.shown(least)}'
        )


def _options(job: Job, trial: Trial, costs: Costs) -> dict[str, list[Option]]:
    """Return the widths of all layers, with the noise that each makes."""
    noise = {}
    for bits in WIDTHS:
        student = trial(bits)
        pictures = job.pictures[-NOISE_PICTURES:]
        bar = progress(pictures, desc='measuring noise', unit='picture')
        noise[bits] = output_noise(student, job.detector, bar)
    return {
        name: [
            Option(bits, noise[bits][name], cost)
            for bits, cost in each.items()
        ]
        # What no output depends on is not known to stand a lower width.
        if name in noise[WIDTHS[0]]
        else [Option(WIDTHS[0], 0.0, each[WIDTHS[0]])]
        for name, each in costs.items()
    }


def _sizes(job: Job, trial: Trial) -> tuple[Costs, float]:
    """Return the bytes of packed weights, and of the rest of the file."""
    weights = {n: job.layer(n).weight.numel() for n in job.layers}
    costs = {
        name: {bits: packed_bytes(count, bits) for bits in WIDTHS}
        for name, count in weights.items()
    }
    size = len(file.to_bytes(job.compile(trial(WIDTHS[0]))))
    return costs, size - sum(each[WIDTHS[0]] for each in costs.values())


def packed_bytes(count: int, bits: int) -> int:
    """Return what weights of a layer take in a file."""
    return -(-count * bits // (8 * file.ALIGNMENT)) * file.ALIGNMENT


def _times(job: Job, trial: Trial) -> tuple[Costs, float]:
    """Return the milliseconds of layers.

    The engine runs whole programs. The time of one with a single width is
    divided among its layers by their multiplications; all else is in it.
    """
    if library() is None:
        raise UserError(
            '--budget: milliseconds are those of the engine, which is not '
            'built; pip install with a C++ compiler builds it'
        )
    programs = [job.compile(trial(bits)) for bits in WIDTHS]
    times = milliseconds(programs, job.image)
    for bits, time in zip(WIDTHS, times, strict=True):
        job.say(f'weights of {bits} bits: {time:.2f} ms')
    macs = _macs(job)
    total = sum(macs.values())
    levels = gains(times)
    return {
        name: {
            bits: level * count / total
            for bits, level in zip(WIDTHS, levels, strict=True)
        }
        for name, count in macs.items()
    }, 0.0


def gains(times: Sequence[float]) -> list[float]:
    """Return times of ever narrower weights without what is chance.

    Args:
        times: Of the widest first.

    Returns:
        list: Each is the one before it, or less by more than
        :data:`LEAST_GAIN`.
    """
    levels = [times[0]]
    for time in times[1:]:
        is_less = time < levels[-1] * (1 - LEAST_GAIN)
        levels.append(time if is_less else levels[-1])
    return levels


def milliseconds(
    programs: Sequence[CompiledDetector], image: np.ndarray
) -> list[float]:
    """Return how long the engine takes from an image to boxes, at least.

    It is the processor's time of one thread, which other work on the machine
    disturbs little. Programs take turns.

    Args:
        programs: Of one detector or several.
        image: RGB, uint8 (height, width, 3).
    """
    detectors = [Detector(program, threads=1) for program in programs]
    least = [float('inf')] * len(detectors)
    for _ in range(ROUNDS):
        for index, detect in enumerate(detectors):
            start = thread_time()
            detect(image)
            least[index] = min(least[index], 1e3 * (thread_time() - start))
    return least


@torch.no_grad()
def _macs(job: Job) -> dict[str, int]:
    """Return the multiplications of each layer for a picture."""
    counts = dict.fromkeys(job.layers, 0)

    def count(name: str, module: Any, output: Tensor) -> None:
        counts[name] += output.numel() * module.weight[0].numel()

    with ExitStack() as stack:
        for name in counts:
            handle = job.layer(name).register_forward_hook(
                lambda module, args, output, name=name: count(
                    name, module, output
                )
            )
            stack.callback(handle.remove)
        run(job.detector, job.pictures[0])
    return counts
