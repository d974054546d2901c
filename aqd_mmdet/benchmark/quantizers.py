"""Quantisers of trained detectors: ours, and those of other libraries."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..compiler.compile import compile_detector, read_test_preprocess
from ..engine.float_detector import start_from
from ..post_training.quantize import quantize
from ..post_training.recipe import find_recipe
from ..post_training.stems import find_stems, fold_preprocessor
from ..program import file
from ..progress import progress
from .accuracy import levels_of
from .peers import OnnxSettings, quantize_nncf, quantize_onnxruntime
from .prepare import (
    export,
    float_convolutions,
    openvino_float_convolutions,
    raw_maps,
)

ACTIVATION_BITS = 8


@dataclass(frozen=True)
class Source:
    """What all quantisers start from.

    Attributes:
        cfg: The whole config.
        detector: The float detector.
        dataset: The test dataset.
        paths: Files of the pictures to calibrate with.
        network: ONNX file of the float network.
        size: Height and width of the image to time with, in pixels.
        levels: Number of maps of each output of the network.
    """

    cfg: Config
    detector: Any
    dataset: Any
    paths: tuple[Path, ...]
    network: Path
    size: tuple[int, int]
    levels: tuple[int, ...]


Quantize = Callable[[Source, Path], None]


@dataclass(frozen=True)
class QuantizerSpec:
    """One quantiser with its settings.

    Attributes:
        name: Name on the command line.
        title: Name in tables.
        library: Library that runs its file; key of :data:`runners.LOAD`.
        suffix: Of its file.
        packages: Packages that it needs.
        quantize: Writes its file; None for the float network.
    """

    name: str
    title: str
    library: str
    suffix: str
    packages: tuple[str, ...]
    quantize: Quantize | None


def make_source(
    cfg: Config,
    detector: Any,
    dataset: Any,
    paths: list[Path],
    folder: Path,
) -> Source:
    """Export the float network and return what quantisers start from.

    Args:
        cfg: The whole config.
        detector: The float detector.
        dataset: The test dataset.
        paths: Files of the pictures to calibrate with.
        folder: Folder of the ONNX file.

    Raises:
        UserError: If the detector is of several stages.
    """
    image = prepared(detector, dataset[0])
    folded = deepcopy(detector)
    fold_preprocessor(folded, find_stems(folded))
    pre = read_test_preprocess(folded.data_preprocessor, cfg)
    network = folder / 'float.onnx'
    levels = levels_of(detector, image)
    export(
        raw_maps(detector),
        network,
        tuple(image.shape),
        dynamic=not (pre.whole or pre.stretch),
    )
    height, width = image.shape[2:]
    return Source(
        cfg, detector, dataset, tuple(paths), network, (height, width), levels
    )


def prepared(detector: Any, item: dict) -> Tensor:
    """Return an item of a dataset as the network is given it, (1, 3, H, W)."""
    return detector.data_preprocessor(pseudo_collate([item]), False)['inputs']


def _images(source: Source) -> list[np.ndarray]:
    """Return the pictures to calibrate with, by the test pipeline."""
    return [
        prepared(
            source.detector,
            # LoadAnnotations finds none.
            source.dataset.pipeline(
                dict(img_path=str(path), img_id=0, instances=[])
            ),
        ).numpy()
        for path in progress(source.paths, desc='reading', unit='picture')
    ]


def _quantize_ours(
    source: Source, path: Path, weight_bits: int, effort: str
) -> None:
    start = start_from(deepcopy(source.detector), source.cfg, source.paths)
    recipe = find_recipe(
        start.detector, start.stems, weight_bits, ACTIVATION_BITS
    )
    quantized = quantize(start.detector, recipe, start.pictures, effort)
    compilation = compile_detector(
        quantized.detector,
        source.cfg,
        lambda text: None,
    )
    file.save(compilation.compiled, path)


def _quantize_onnxruntime(
    source: Source, path: Path, settings: OnnxSettings
) -> None:
    images = _images(source)
    with progress(
        total=len(images), desc='calibrating', unit='picture'
    ) as bar:
        quantize_onnxruntime(
            source.network, path, images, settings, bar.update
        )


def _quantize_nncf(source: Source, path: Path, fast: bool) -> None:
    quantize_nncf(source.network, path, _images(source), fast)


def _ours(name: str, title: str, bits: int, effort: str) -> QuantizerSpec:
    return QuantizerSpec(
        name,
        title,
        'aqd',
        '.aqd',
        (),
        partial(_quantize_ours, weight_bits=bits, effort=effort),
    )


def _onnxruntime(name: str, title: str, **settings: Any) -> QuantizerSpec:
    return QuantizerSpec(
        f'onnxruntime-{name}',
        f'ONNX Runtime, {title}',
        'onnxruntime',
        '.onnx',
        ('onnx', 'onnxruntime'),
        partial(_quantize_onnxruntime, settings=OnnxSettings(**settings)),
    )


def _nncf(name: str, title: str, fast: bool) -> QuantizerSpec:
    return QuantizerSpec(
        f'nncf-{name}',
        f'OpenVINO with NNCF, {title}',
        'openvino',
        '.xml',
        ('onnx', 'openvino', 'nncf'),
        partial(_quantize_nncf, fast=fast),
    )


QUANTIZERS = (
    QuantizerSpec(
        'onnxruntime-float',
        'ONNX Runtime float32',
        'onnxruntime',
        '.onnx',
        ('onnx', 'onnxruntime'),
        None,
    ),
    QuantizerSpec(
        'openvino-float',
        'OpenVINO float32',
        'openvino',
        '.onnx',
        ('onnx', 'openvino'),
        None,
    ),
    _onnxruntime('minmax', 'MinMax', calibration='MinMax'),
    _onnxruntime('percentile', 'Percentile', calibration='Percentile'),
    _onnxruntime(
        'percentile-convolutions',
        'Percentile, other operators and outputs in float',
        calibration='Percentile',
        only_convolutions=True,
        float_outputs=True,
    ),
    _onnxruntime('entropy', 'Entropy', calibration='Entropy'),
    _nncf('fast', 'fast bias correction', True),
    _nncf('full', 'full bias correction', False),
    _ours('aqd-8', 'aqd 8 bits', 8, 'reconstruct'),
    _ours('aqd-8-calibrate', 'aqd 8 bits, ranges alone', 8, 'calibrate'),
    _ours('aqd-6', 'aqd 6 bits', 6, 'reconstruct'),
)


def files_of(spec: QuantizerSpec, path: Path) -> list[Path]:
    """Return all files of a quantised network.

    Args:
        spec: The quantiser.
        path: The file that is loaded.
    """
    weights = path.with_suffix('.bin')  # of OpenVINO's .xml
    return [path, weights] if spec.suffix == '.xml' else [path]


def count_float_convolutions(spec: QuantizerSpec, path: Path) -> int:
    """Return the number of convolutions that a library runs in float.

    Args:
        spec: The quantiser.
        path: Its file.
    """
    if spec.library == 'onnxruntime':
        return len(list(float_convolutions(path)))
    if spec.library == 'openvino':
        return len(list(openvino_float_convolutions(path)))
    return 0
