"""Writes the model files of all engines for each benchmark case."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..program import file
from ..program import ops as ir
from ..program.detector import CompiledDetector
from .cases import Boxes, Case, Network
from .layers import LONG, SHORT, Chain, chain_detector
from .peers import OnnxSettings, quantize_onnxruntime
from .pipeline import pipeline_file
from .runners import DYNAMIC_SIDES
from .uint8_input import use_uint8_input

# Number of random images from which ONNX Runtime computes a chain's ranges.
CHAIN_IMAGES = 2


@dataclass
class Models:
    """Model files in a folder; each is written when it is first needed.

    Attributes:
        configs: Folder of the configs.
        folder: Folder of the model files.
        say: Called with the current step, for a progress bar.
    """

    configs: Path
    folder: Path
    say: Callable[[str], None]
    _floats: dict[Network, Any] = field(default_factory=dict)
    # Scales and zero points of the codes that int8 networks read.
    _grids: dict[Path, tuple[float, int]] = field(default_factory=dict)

    def files(self, case: Case, model: str) -> list[Path]:
        """Return the files of a case: one of a network, two of a chain.

        Args:
            case: The case. A chain has a long and a short file, in this order.
                Beside a peer's network is what is around it, if boxes are
                measured.
            model: Kind of the file; see :attr:`EngineSpec.model`.
        """
        if isinstance(case, Chain):
            return [
                self._file(f'{case.name}-{links}', case, model, links)
                for links in (LONG, SHORT)
            ]
        if isinstance(case, Boxes):
            return [self._with_boxes(case, model)]
        # A compiled detector accepts all sizes, an exported one a single size.
        is_ours = model.startswith('aqd')
        name = case.detector if is_ours else case.name
        return [self._file(name, case, model, 1)]

    def _file(
        self, name: str, case: Network | Chain, model: str, links: int
    ) -> Path:
        suffix = '.aqd' if model.startswith('aqd') else ''
        path = self.folder / f'{name}-{model}{suffix}'
        if path.exists():
            return path
        self.say(f'writing {path.name}')
        if suffix:
            bits = int(model.removeprefix('aqd'))
            file.save(self._compiled(case, bits, links), path)
        elif model == 'int8.onnx':
            source = self._file(name, case, 'float.onnx', links)
            self._grids[path] = _quantize(source, path, self._images(case))
        else:
            network = (
                _chain_module(case, links)
                if isinstance(case, Chain)
                else raw_maps(self._float(case).detector)
            )
            export(network, path, (1, 3, *case.size))
        return path

    def _with_boxes(self, case: Boxes, model: str) -> Path:
        """Return a detector's file, with candidates as of a trained one."""
        from .callers import read_pictures
        from .candidates import with_our_threshold, with_peer_threshold

        (network,) = self.files(case.network, model)
        is_ours = model.startswith('aqd')
        path = network.with_name(f'{case.name}-{model}.aqd')
        if (path if is_ours else pipeline_file(network)).exists():
            return path if is_ours else network
        self.say(f'counting candidates of {network.name}')
        pictures = read_pictures(case.pictures)
        if is_ours:
            file.save(with_our_threshold(network, pictures), path)
            return path
        from .heads import read_pipeline

        floating = self._float(case.network)
        pipeline = read_pipeline(floating, self._grids.get(network))
        pipeline = with_peer_threshold(pipeline, network, pictures)
        pipeline_file(network).write_bytes(pickle.dumps(pipeline))
        return network

    def _compiled(
        self, case: Network | Chain, bits: int, links: int
    ) -> CompiledDetector:
        if isinstance(case, Chain):
            return chain_detector(case, bits, links)
        from .detectors import compile_at

        floating = self._float(case) if case.source.is_zoo else None
        return compile_at(case, self.configs, bits, floating)

    def _images(self, case: Network | Chain) -> list[np.ndarray]:
        """Return images from which ONNX Runtime computes activation ranges."""
        if isinstance(case, Chain):
            rng = np.random.default_rng(0)
            shape = (CHAIN_IMAGES, 1, 3, *case.size)
            return list(rng.standard_normal(shape).astype(np.float32))
        return list(self._float(case).images[:, None].numpy())

    def _float(self, network: Network) -> Any:
        """Return a detector in float, and pictures for it."""
        from .detectors import build_float
        from .heads import set_candidates

        if network not in self._floats:
            # Keep only one detector, because they are large.
            self._floats.clear()
            floating = build_float(network, self.configs)
            set_candidates(floating.detector, floating.images)
            self._floats[network] = floating
        return self._floats[network]

    def macs(self, case: Case) -> int:
        """Return the multiply-accumulates of one result."""
        if isinstance(case, Chain):
            return case.macs
        network = case.network if isinstance(case, Boxes) else case
        (path,) = self.files(network, 'aqd8')
        program = file.load(path)[0].program
        sizes = program.sizes(case.size)
        total = 0
        for op in program.ops:
            if isinstance(op, ir.Convolution):
                height, width = sizes[op.output]
                total += (
                    prod(program.weights[op.weights].shape) * height * width
                )
        return total


def raw_maps(detector: Any) -> Any:
    """Wrap a detector in a module that returns its output maps as one list."""
    from torch import Tensor, nn

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = detector

        def forward(self, image: Tensor) -> list[Tensor]:
            outputs = self.detector(image, mode='tensor')
            return [level for levels in outputs for level in levels]

    return Maps().eval()


def _chain_module(chain: Chain, links: int) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, out, side in chain.layers(links):
        layers += [
            nn.Conv2d(channels, out, side, padding=side // 2),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers).eval()


def export(
    network: Any, path: Path, shape: tuple[int, ...], dynamic: bool = False
) -> None:
    """Write a float network.

    Args:
        network: The network.
        path: File to write, ``.pt2`` or ``.onnx``.
        shape: Shape of the image.
        dynamic: Whether an ONNX network accepts other heights and widths as
            well. The peers optimise fixed sizes better.
    """
    import torch

    image = torch.randn(shape)
    with torch.no_grad():
        if path.suffix == '.pt2':
            exported = torch.export.export(network, (image,), strict=False)
            torch.export.save(exported, path)
            return
        # dynamo=False, because the newer exporter needs onnxscript.
        torch.onnx.export(
            network,
            (image,),
            str(path),
            input_names=['image'],
            dynamic_axes=dict(image=DYNAMIC_SIDES) if dynamic else None,
            opset_version=17,
            dynamo=False,
        )


def _quantize(
    source: Path, path: Path, images: list[np.ndarray]
) -> tuple[float, int]:
    """Quantise an ONNX file with ONNX Runtime; its input becomes uint8.

    Returns:
        tuple: Scale and zero point of the input's codes.
    """
    import onnx

    quantize_onnxruntime(source, path, images, OnnxSettings())
    model = onnx.load(path)
    grid = use_uint8_input(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    check_integer('onnxruntime', path, list(float_convolutions(path)))
    return grid


def check_integer(library: str, path: Path, floats: list[str]) -> None:
    """Raise if a library runs convolutions of a quantised file in float.

    Args:
        library: Name of the library.
        path: The quantised file.
        floats: Names of the convolutions that run in float.

    Raises:
        UserError: If there are any.
    """
    if floats:
        raise UserError(
            f'{library} runs {len(floats)} convolutions of {path.name} in '
            f'float, for example {floats[0]}: expected none; compare its '
            'version with those in docs/benchmark.md'
        )


def float_convolutions(path: Path) -> Iterator[str]:
    """Yield the convolutions that ONNX Runtime runs in float.

    Args:
        path: A quantised ONNX file.
    """
    import onnx
    import onnxruntime

    optimised = path.with_suffix('.optimised.onnx')
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, ['CPUExecutionProvider'])
    model = onnx.load(optimised)
    optimised.unlink()
    for node in model.graph.node:
        if 'Conv' in node.op_type and node.op_type != 'QLinearConv':
            yield f'{node.op_type} {node.name}'


def openvino_float_convolutions(path: Path) -> Iterator[str]:
    """Yield the convolutions that OpenVINO runs in float.

    Args:
        path: A quantised ONNX file.
    """
    from .runners import openvino_model

    for node in openvino_model(path, 1).get_runtime_model().get_ops():
        info = node.get_rt_info()
        if 'Convolution' not in info['layerType'].astype(str):
            continue
        if info['runtimePrecision'].astype(str) not in ('u8', 'i8'):
            yield node.get_friendly_name()
