"""A trained detector becomes a compiled one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from torch import nn

from ..config import datasets_of, labels_of, type_name
from ..errors import UserError
from ..program.check import check_detector
from ..program.detector import CompiledDetector, PreProcess
from ..program.fixed_point import FixedPoint
from .detectors import need_known_detector
from .fold import Folded, fold
from .graph import Trace
from .heads import read_postprocess
from .images import image_mean, read_preprocess
from .regions import (
    RegionNetwork,
    capture_regions,
    read_regions,
    region_networks,
)
from .trace import need_compilable, trace


@dataclass(frozen=True)
class Compilation:
    """A compiled detector and what it was made of, for comparisons.

    Attributes:
        compiled: The detector.
        trace: Its captured network.
        folded: The network's program.
        regions: The heads of its second stage.
    """

    compiled: CompiledDetector
    trace: Trace
    folded: Folded
    regions: tuple[RegionNetwork, ...]


def fixed_point_of(detector: nn.Module) -> FixedPoint:
    """Return how a detector's program stands for real numbers.

    Args:
        detector: Of ``QuantizedDetector``, which has read the config's
            ``model.integer``; any other has the defaults.
    """
    return getattr(detector, 'fixed_point', FixedPoint())


def compile_detector(
    detector: nn.Module,
    cfg: Config,
    say: Callable[[str], None] = print,
) -> Compilation:
    """Compile a detector with all that precedes and follows its network.

    Args:
        detector: Built from the config, its checkpoint loaded.
        cfg: The config.
        say: Told what is being done.

    Raises:
        UserError: Naming what cannot be an integer.
    """
    need_compilable(detector)
    need_known_detector(detector)
    fixed_point = fixed_point_of(detector)
    say('capturing the graph')
    network_trace = trace(detector)
    say('folding it into integers')
    pre: Any = detector.data_preprocessor
    stride = int(pre.pad_size_divisor)
    folded = fold(network_trace, image_mean(pre), stride, fixed_point)
    networks = region_networks(
        detector, capture_regions(detector), fixed_point
    )
    if getattr(getattr(detector, 'roi_head', None), 'with_mask', False):
        say('roi_head.mask_head stays float: the program has boxes, no masks')
    say('pre- and post-processing')
    labels = _test_labels(cfg)
    program, postprocess = read_postprocess(detector, folded, fixed_point)
    compiled = CompiledDetector(
        program,
        read_test_preprocess(pre, cfg),
        postprocess,
        read_regions(detector, networks, fixed_point),
        labels,
    )
    say('proving that nothing overflows')
    try:
        check_detector(compiled)
    except UserError as error:
        raise UserError(f'the compiled detector: {error}') from None
    return Compilation(compiled, network_trace, folded, networks)


def _test_labels(cfg: Config) -> tuple[str, ...]:
    labels = labels_of(cfg, 'test')
    if labels is None:
        raise UserError(
            'test_dataloader.dataset: it has no class names, which go into '
            "the file; take a dataset that derives from mmengine's BaseDataset"
        )
    return labels


def read_test_preprocess(pre: Any, cfg: Config) -> PreProcess:
    """Return how a config's test datasets bring images to the network.

    Args:
        pre: The detector's data preprocessor.
        cfg: The whole config.

    Raises:
        UserError: If a program has not what a pipeline does, several
            datasets have pipelines that do not agree, or there is none.
    """
    where = 'test_dataloader.dataset'
    if not cfg.get('test_dataloader'):
        raise UserError(
            'the config has no test_dataloader, whose pipeline says how '
            'pictures come to the network'
        )
    outer = cfg.test_dataloader.dataset
    datasets = dict(datasets_of(outer, where))
    if not datasets:
        raise UserError(
            f'{where} ({type_name(outer)}): expected a dataset that derives '
            "from mmengine's BaseDataset, or a wrapper of such"
        )
    if outer.get('pipeline') and where not in datasets:
        raise UserError(
            f'{where} ({type_name(outer)}) has a pipeline of its own behind '
            'that of its images: a program has none'
        )
    datasets_by_frame: dict[PreProcess, str] = {}
    for name, dataset in datasets.items():
        try:
            frame = read_preprocess(pre, dataset.pipeline)
        except UserError as error:
            raise UserError(f'{name}: {error}') from None
        datasets_by_frame.setdefault(frame, name)
    if len(datasets_by_frame) > 1:
        first, other, *_ = datasets_by_frame.values()
        raise UserError(
            f'{first} and {other} bring images to the network in different '
            'ways: a program has one; give them the same pipeline'
        )
    return next(iter(datasets_by_frame))
