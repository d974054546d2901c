"""Makes the files that engines load: of one network in all forms.

Weights are random, clip values and norms calibrated on random images: speed
depends on neither, but everything is on the grid that training would leave
it on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..program import file
from ..program import ops as ir
from .cases import CONFIGS, Case
from .layers import LONG, SHORT, Chain, chain_detector

# Of calibration: large enough that every level has statistics.
CALIBRATED = 256
# Random images for ONNX Runtime's ranges.
READ = 2


@dataclass
class Models:
    """Makes files in a folder, and keeps those that serve again.

    Attributes:
        configs: The folder of configs.
        folder: Where files go.
        say: Told what is being done.
    """

    configs: Path
    folder: Path
    say: Callable[[str], None]
    _detectors: dict[tuple[str, Any], Any] = field(default_factory=dict)

    def files(self, case: Case, model: str) -> list[Path]:
        """Return the files of a case: one, or a long and a short chain's."""
        if isinstance(case, Chain):
            return [
                self._file(f'{case.name}-{links}', case, model, links)
                for links in (LONG, SHORT)
            ]
        # Compiled detectors take all sizes.
        ours = model.startswith('aqd')
        name = case.detector if ours else case.name
        return [self._file(name, case, model, 1)]

    def _file(self, name: str, case: Case, model: str, links: int) -> Path:
        suffix = '.aqd' if model.startswith('aqd') else ''
        path = self.folder / f'{name}-{model}{suffix}'
        if path.exists():
            return path
        self.say(f'making {path.name}')
        if suffix:
            bits = int(model.removeprefix('aqd'))
            if isinstance(case, Chain):
                compiled = chain_detector(case, bits, links)
            else:
                detector, cfg = self._detector(case.detector, bits)
                compiled = _compile(detector, cfg)
            file.save(compiled, path)
        elif model == 'int8.onnx':
            source = self._file(name, case, 'float.onnx', links)
            _quantize(source, path, (1, 3, *case.size))
        else:
            network = (
                _chain_module(case, links)
                if isinstance(case, Chain)
                else _maps(self._detector(case.detector, 'float')[0])
            )
            _export(network, path, (1, 3, *case.size))
        return path

    def _detector(self, name: str, bits: Any) -> Any:
        """Return a detector with its config, built once and calibrated."""
        if (name, bits) not in self._detectors:
            # One at a time: they are large.
            self._detectors.clear()
            path = self.configs / CONFIGS[name]
            self._detectors[name, bits] = _build(path, bits)
        return self._detectors[name, bits]

    def macs(self, case: Case) -> int:
        """Return how many multiplications one result takes."""
        if isinstance(case, Chain):
            return case.macs
        (path,) = self.files(case, 'aqd8')
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


def _build(config: Path, bits: Any) -> Any:
    import torch
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.registry import MODELS

    from ..engine.calibration import calibrate
    from ..quantizers.start import mse_clip

    register_all_modules()
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    cfg.model.bits = bits
    cfg.model.backbone.init_cfg = None
    detector: Any = MODELS.build(cfg.model)
    images = torch.randn(2, 3, CALIBRATED, CALIBRATED)
    calibrate(detector, [dict(inputs=images)], mse_clip)
    return detector.eval(), cfg


def _compile(detector: Any, cfg: Any) -> Any:
    from ..compiler.compile import compile_detector
    from ..models.quantized_detector import fixed_point_of

    return compile_detector(
        detector, cfg, lambda text: None, fixed_point_of(detector)
    ).compiled


def _maps(detector: Any) -> Any:
    """Return a detector as a module from an image to a list of maps."""
    from torch import Tensor, nn

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = detector

        def forward(self, image: Tensor) -> list[Tensor]:
            kinds = self.detector(image, mode='tensor')
            return [level for levels in kinds for level in levels]

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


def _export(network: Any, path: Path, shape: tuple[int, ...]) -> None:
    """Write a float network for one size, which serves its readers best."""
    import torch

    image = torch.randn(shape)
    with torch.no_grad():
        if path.suffix == '.pt2':
            made = torch.export.export(network, (image,), strict=False)
            torch.export.save(made, path)
            return
        # The older exporter needs no package beside torch.
        torch.onnx.export(
            network,
            (image,),
            str(path),
            input_names=['image'],
            opset_version=17,
            dynamo=False,
        )


def _quantize(source: Path, path: Path, shape: tuple[int, ...]) -> None:
    """Quantise an ONNX file by ONNX Runtime, so that it reads bytes."""
    import numpy as np
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.quantize import StaticQuantConfig
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.images = iter(
                rng.standard_normal((READ, *shape)).astype(np.float32)
            )

        def get_next(self) -> Any:
            image = next(self.images, None)
            return None if image is None else dict(image=image)

    folded = path.with_suffix('.folded.onnx')
    quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
    quantize(
        str(folded),
        str(path),
        StaticQuantConfig(
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        ),
    )
    folded.unlink()
    model = onnx.load(path)
    _read_bytes(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    found = list(float_convolutions(path))
    if found:
        raise UserError(
            f'onnxruntime left {len(found)} convolutions of {path.name} in '
            f'float, {found[0]} for one'
        )


def _read_bytes(graph: Any) -> None:
    """Let a graph begin with codes, as a compiled detector does."""
    import onnx

    given = graph.input[0]
    (first,) = (node for node in graph.node if given.name in node.input)
    assert first.op_type == 'QuantizeLinear', first.op_type
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == first.output[0]:
                node.input[place] = given.name
    graph.node.remove(first)
    given.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def float_convolutions(path: Path) -> Iterator[str]:
    """Yield the convolutions that ONNX Runtime would run in float.

    Args:
        path: Of a quantised ONNX file.
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
    """Yield the convolutions that OpenVINO would run in float.

    Args:
        path: Of a quantised ONNX file.
    """
    from .runners import openvino_model

    for node in openvino_model(path, 1).get_runtime_model().get_ops():
        info = node.get_rt_info()
        if 'Convolution' not in info['layerType'].astype(str):
            continue
        if info['runtimePrecision'].astype(str) not in ('u8', 'i8'):
            yield node.get_friendly_name()
