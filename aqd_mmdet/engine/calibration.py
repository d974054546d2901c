"""Starting values: clip values and norms before the first quantised step."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, IterableDataset

from ..errors import UserError
from ..layers.weighted import QuantizedLayer
from ..models.quantized_detector import detector_of, quantized_layers
from ..patches import patched
from ..post_training.calibration import Observer, unchanged
from ..post_training.ranges import range_of
from ..quantizers.fake_quantize import round_half_up
from ..quantizers.quantizer import (
    Quantizer,
    Rounding,
    RoundingHook,
    WeightQuantizer,
)
from ..quantizers.start import Start, start_clip
from ..registry import HOOKS
from .checkpoint import use_safe_loader


class _RunningMean:
    """Observer that averages the clip values of all it is shown.

    Args:
        name: Name of the layer whose input it sees, for messages.
        quantizer: The quantiser observed.
        start: Rule for the clip value of one tensor.
        normalized: Passed on to the rule.
    """

    def __init__(
        self, name: str, quantizer: Quantizer, start: Start, normalized: bool
    ) -> None:
        self.name = name
        self.quantizer = quantizer
        self.start_of = start
        self.normalized = normalized
        self.total = quantizer.clip.new_zeros(())
        self.count = 0

    def __call__(self, x: Tensor, rounding: Rounding) -> Tensor:
        """Observe ``x`` and return it as it is."""
        grid = self.quantizer.grid
        # The branches of an adder are rounded to a grid of their own; a second
        # stage may be given no region.
        if rounding.grid != grid or not x.numel():
            return x
        unsigned = grid.lo == 0 and not rounding.cuts_negatives
        if unsigned and x.detach().amin() < 0:
            raise UserError(
                f'{self.name} reads values below zero, but its codes are '
                f"unsigned: give it act_grid='signed' by a rule of the recipe "
                '(or a ReLU in front)'
            )
        self.total += self.start_of(x, grid, self.normalized)
        self.count += 1
        return x

    def start(self) -> bool:
        """Start the quantiser with the average; False if nothing was seen."""
        if self.count:
            clip = self.total / self.count
            _mean_over_ranks(clip)
            self.quantizer.start(clip)
        return self.count > 0


class _Sample(Observer):
    """Observer of a quantiser with a zero point, or steps of channels.

    Args:
        name: Name of the layer whose input it sees, for messages.
        quantizer: The quantiser observed.
        batches: How many it will see.
    """

    def __init__(self, name: str, quantizer: Quantizer, batches: int) -> None:
        super().__init__(quantizer, batches)
        self.name = name
        self.quantizer = quantizer

    def start(self) -> bool:
        """Start the quantiser; False if nothing was seen."""
        if self.parts:
            clip, zero = range_of(self.quantizer, *self.sample())
            for value in (clip, zero):
                _mean_over_ranks(value)
            whole = None if zero is None else round_half_up(zero)
            self.quantizer.start(clip, whole)
        return bool(self.parts)


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Sets clip values and re-estimates norms before training starts.

    First, training batches pass unquantised and each activation quantiser
    averages the clip value that its inputs ask for; the weights' come from
    the weights. Then, since normalised and rounded weights change every
    scale, the batches pass again, quantised, and each BN gathers its
    statistics anew.

    What a quantised checkpoint has set is kept, and rounds while others are
    observed: those of other widths than the checkpoint's, or of the outputs
    for other classes. Nothing happens where all clip values are set. A run
    that is resumed keeps its norms in any case.

    Args:
        batches: Number of training batches to look at.
        start: Registered rule for the clip values: ``mse``, ``lsq`` for those
            of LSQ, or ``paper`` for AQD's published ones (which there follow
            the input for the first ten iterations, unquantised; here, before
            them).
    """

    # Before the hooks that log or time the first iteration.
    priority = 'VERY_HIGH'

    def __init__(self, batches: int = 10, start: str = 'mse') -> None:
        if type(batches) is not int or batches < 1:
            raise UserError(
                f'batches={batches!r} of CalibrationHook: at least 1'
            )
        self.batches = batches
        self.start = start_clip(start)

    def before_run(self, runner: Runner) -> None:
        """Let checkpoints be read safely by MMDetection's own tools, too."""
        use_safe_loader()

    def before_train(self, runner: Runner) -> None:
        """Calibrate the runner's model on its training data."""
        detector: Any = detector_of(runner.model)
        quantizers = [
            m for m in detector.modules() if isinstance(m, Quantizer)
        ]
        count = sum(not q.started for q in quantizers)
        if not count:
            return
        check_norms_train(detector)
        print_log(
            f'calibrating {count} of {len(quantizers)} quantisers on '
            f'{self.batches} batches',
            logger='current',
        )
        batches = sample_batches(
            runner.train_dataloader, self.batches, runner.seed or 0
        )
        prepared = [detector.data_preprocessor(b, True) for b in batches]
        if runner.iter:  # it is resumed
            start_quantizers(detector, prepared, self.start)
        else:
            calibrate(detector, prepared, self.start)


def sample_batches(loader: DataLoader, count: int, seed: int) -> list[Any]:
    """Return full batches of a loader's dataset, drawn at random.

    The loader itself is left alone: an infinite sampler's iterator cannot be
    begun anew, and one that balances or groups images would go on elsewhere.

    Args:
        loader: Whose dataset, batch size and workers are used.
        count: Number of batches of each process.
        seed: Of the draw; processes take different parts of one draw.

    Returns:
        list: What the loader's collate function made; images come again where
        the dataset has too few.

    Raises:
        UserError: If the dataset is a stream, or empty.
    """
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or not len(dataset):
        raise UserError(
            f'train_dataloader.dataset ({type(dataset).__name__}) is a stream '
            'or empty: calibration draws images by their index'
        )
    batch_sampler: Any = loader.batch_sampler  # of its own, or PyTorch's
    size: int = loader.batch_size or batch_sampler.batch_size
    generator = torch.Generator().manual_seed(seed)
    total = count * size * get_world_size()
    drawn: list[int] = []
    while len(drawn) < total:
        drawn += torch.randperm(len(dataset), generator=generator).tolist()
    shard = drawn[get_rank() : total : get_world_size()]
    batches = [shard[i : i + size] for i in range(0, len(shard), size)]
    return list(
        DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )
    )


def check_norms_train(detector: nn.Module) -> None:
    """Raise if a quantised part of the detector has frozen norms.

    Normalised weights change the scale of every convolution's output; a norm
    that keeps the statistics of the float network would then be wrong.
    """
    detector.train()
    for name, child in detector.named_children():
        if not any(
            getattr(layer, 'normalize', False) for layer in child.modules()
        ):
            continue
        for norm_name, norm in child.named_modules():
            if isinstance(norm, _BatchNorm) and not norm.training:
                raise UserError(
                    f'the norm {name}.{norm_name} is frozen, but the '
                    f'quantised convolution before it changes its scale: set '
                    f'model.{name}.norm_eval=False and '
                    f'model.{name}.frozen_stages=-1'
                )


@torch.no_grad()
def calibrate(
    detector: nn.Module, batches: Iterable[dict[str, Any]], start: Start
) -> None:
    """Set the clip values and BN statistics of a detector.

    Args:
        detector: The detector, built and loaded.
        batches: What the detector is called with: ``inputs`` (N, 3, H, W),
            preprocessed as for training, and ``data_samples`` where it reads
            them.
        start: Rule for the clip values.
    """
    batches = list(batches)
    start_quantizers(detector, batches, start)
    was_training = detector.training
    detector.train()
    with _gathering_statistics(detector) as norms:
        for batch in batches:
            detector(**batch, mode='tensor')
    for norm in norms:
        _mean_over_ranks(norm.running_mean)
        _mean_over_ranks(norm.running_var)
    detector.train(was_training)


@torch.no_grad()
def start_quantizers(
    detector: nn.Module, batches: Iterable[dict[str, Any]], start: Start
) -> None:
    """Set the clip values that are not set; norms keep their statistics.

    Args:
        detector, batches, start: As of :func:`calibrate`.
    """
    batches = list(batches)
    was_training = detector.training
    # Norms use the statistics of the batch. The running ones say nothing if
    # the detector was not trained, or was trained without normalised weights.
    detector.train()
    layers = quantized_layers(detector)
    new_weights = [x for x in layers.values() if _has_new_weights(x)]
    norms = [m for m in detector.modules() if isinstance(m, _BatchNorm)]
    earlier = [deepcopy(dict(norm.named_buffers())) for norm in norms]
    with _observed(detector, layers, start, len(batches)) as observers:
        for batch in batches:
            detector(**batch, mode='tensor')
    for norm, buffers in zip(norms, earlier, strict=True):
        _restore(norm, buffers)
    unseen = [o.name for o in observers if not o.start()]
    # After the inputs, whose steps the weights make up for.
    for layer in new_weights:
        _start_weights(layer, start)
    if unseen:
        print_log(
            f'calibration: {len(unseen)} quantisers saw no values, such as '
            f'{unseen[0]}: either nothing uses them, or a second stage was '
            'given no region; then the first step that has one will fail',
            logger='current',
            level=logging.WARNING,
        )
    detector.train(was_training)


def _has_new_weights(layer: QuantizedLayer) -> bool:
    """Return whether the clip value of a layer's weights is to be set.

    Where channels of the input get new steps, the weights make up for them.
    """
    inputs: Any = layer.input_quantizer
    if not layer.weight_quantizer.started:
        return True
    return isinstance(inputs, Quantizer) and bool(
        inputs.clip.ndim and not inputs.started
    )


def _start_weights(layer: QuantizedLayer, start: Start) -> None:
    quantizer = layer.weight_quantizer
    weight = layer.scaled_weight().detach()
    if quantizer.clip.ndim:
        clip = torch.stack(
            [
                start(channel, quantizer.grid, layer.normalize)
                for channel in weight
            ]
        ).view_as(quantizer.clip)
    else:
        clip = start(weight, quantizer.grid, layer.normalize)
    quantizer.start(clip)


@contextmanager
def _observed(
    detector: nn.Module,
    layers: dict[str, QuantizedLayer],
    start: Start,
    batches: int,
) -> Iterator[list[_RunningMean | _Sample]]:
    """Let quantisers that are not started pass values, and observe them."""
    normalized: dict[nn.Module, bool] = {
        layer.input_quantizer: layer.normalize for layer in layers.values()
    }
    observers: list[_RunningMean | _Sample] = []
    with ExitStack() as stack:
        for name, module in detector.named_modules():
            if not isinstance(module, Quantizer) or module.started:
                continue
            hook: RoundingHook = unchanged
            if not isinstance(module, WeightQuantizer):
                where = name.removesuffix('.input_quantizer')
                has_zero = isinstance(module.zero, Tensor)
                if has_zero or module.clip.numel() > 1:
                    hook = _Sample(where, module, batches)
                else:
                    hook = _RunningMean(
                        where, module, start, normalized.get(module, False)
                    )
                observers.append(hook)
            stack.enter_context(patched(module, hook=hook))
        yield observers


@contextmanager
def _gathering_statistics(detector: nn.Module) -> Iterator[list[_BatchNorm]]:
    """Let all norms average the statistics of what they see, from zero."""
    norms = [m for m in detector.modules() if isinstance(m, _BatchNorm)]
    norms = [norm for norm in norms if norm.training]
    momenta = [norm.momentum for norm in norms]
    earlier = [deepcopy(dict(norm.named_buffers())) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's cumulative average
    try:
        yield norms
    finally:
        for norm, momentum, buffers in zip(
            norms, momenta, earlier, strict=True
        ):
            norm.momentum = momentum
            # A norm that no batch came through, or single values alone.
            if not norm.num_batches_tracked:
                _restore(norm, buffers)


def _restore(norm: _BatchNorm, buffers: dict[str, Tensor]) -> None:
    for name, buffer in norm.named_buffers():
        buffer.copy_(buffers[name])


def _mean_over_ranks(value: Tensor | None) -> None:
    if value is not None and get_world_size() > 1:
        all_reduce(value, op='mean')
