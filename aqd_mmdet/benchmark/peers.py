"""Quantises exported networks with ONNX Runtime and with NNCF."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

# Share of values, in per cent, that a range covers under ``Percentile``.
PERCENTILE = 99.99


@dataclass(frozen=True)
class OnnxSettings:
    """How ONNX Runtime quantises a network.

    Attributes:
        calibration: ``MinMax``, ``Percentile`` or ``Entropy``.
        only_convolutions: Whether operators other than convolutions stay in
            float.
        float_outputs: Whether the last convolutions and all operators behind
            them stay in float. ONNX Runtime's int8 convolutions round their
            results to 8 bits, so the outputs would have 8 bits as well.
    """

    calibration: str = 'MinMax'
    only_convolutions: bool = False
    float_outputs: bool = False


def quantize_onnxruntime(
    source: Path,
    path: Path,
    images: Sequence[np.ndarray],
    settings: OnnxSettings,
    step: Callable[[], object] = lambda: None,
) -> None:
    """Quantise an ONNX file with ONNX Runtime's static quantisation.

    Activations are u8; weights are s8 with a scale for each output channel.

    Args:
        source: ONNX file with one input.
        path: File to write.
        images: Inputs to calibrate with, float32 (1, 3, H, W) each.
        settings: How to quantise.
        step: Called after each image.
    """
    import onnx
    from onnxruntime.quantization import quantize
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = path.with_suffix('.folded.onnx')
    with redirect_stdout(StringIO()):
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        graph = onnx.load(folded).graph
        exclude = list(output_nodes(graph)) if settings.float_outputs else []
        reader = _reader(graph.input[0].name, images, step)
        quantize(str(folded), str(path), _config(reader, settings, exclude))
    folded.unlink()


def _config(reader: Any, settings: OnnxSettings, exclude: list[str]) -> Any:
    """Return ONNX Runtime's settings.

    Args:
        reader: Reader of the images.
        settings: How to quantise.
        exclude: Names of nodes that stay in float.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
    )
    from onnxruntime.quantization.quantize import StaticQuantConfig

    return StaticQuantConfig(
        reader,
        calibrate_method=CalibrationMethod[settings.calibration],
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=['Conv'] if settings.only_convolutions else None,
        nodes_to_exclude=exclude,
        per_channel=True,
        extra_options=dict(
            # ONNX Runtime keeps the results of all layers for all images that
            # it is given at once.
            CalibStridedMinMax=1,
            CalibPercentile=PERCENTILE,
            # The default of Percentile is a symmetric range, which wastes
            # half of the codes behind a ReLU or SiLU.
            CalibTensorRangeSymmetric=False,
        ),
    )


def _reader(
    name: str, images: Sequence[np.ndarray], step: Callable[[], object]
) -> Any:
    """Return a data reader of ONNX Runtime."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[np.ndarray] = iter(())

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.images = iter(images[start_index:end_index])

        def get_next(self) -> Any:
            image = next(self.images, None)
            if image is None:
                step()
                return None
            return {name: image}

    return Reader()


def output_nodes(graph: Any) -> Iterator[str]:
    """Yield the names of the last convolutions and of all nodes behind them.

    Args:
        graph: Graph of an ONNX model whose nodes have names.
    """
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [output.name for output in graph.output]
    seen: set[str] = set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        yield node.name
        if node.op_type != 'Conv':
            waiting += node.input


def quantize_nncf(
    source: Path,
    path: Path,
    images: Sequence[np.ndarray],
    fast_bias_correction: bool,
) -> None:
    """Quantise an ONNX file with NNCF for OpenVINO.

    The preset is MIXED: activations are asymmetric u8, weights symmetric s8
    with a scale for each output channel. NNCF's outputs stay in float. It
    shows its own progress.

    Args:
        source: ONNX file.
        path: File ``.xml`` to write; the weights go to ``.bin``.
        images: Inputs to calibrate with, float32 (1, 3, H, W) each.
        fast_bias_correction: Whether biases are corrected by NNCF's fast
            method. The other one is more accurate, as a rule, and slower.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = nncf.quantize(
        openvino.Core().read_model(str(source)),
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(images),
        fast_bias_correction=fast_bias_correction,
    )
    openvino.save_model(model, str(path))
