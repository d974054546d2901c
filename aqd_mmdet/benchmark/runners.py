"""Loads a model file with each library; only worker processes import this.

Each function imports its library itself, so that a worker loads just one.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..program import file

Run = Callable[[], Any]
# The variable that holds OpenVINO's convolutions to some instructions: oneDNN
# reads it when it is loaded.
MAX_ISA = 'ONEDNN_MAX_CPU_ISA'
# Axes of an image that an exported network leaves open, by their names.
DYNAMIC_SIDES = {2: 'height', 3: 'width'}


def _images(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    # No numpy.random: it would add 6 MiB to the process's memory.
    squares = np.arange(8191) ** 2 % 8191 % 256
    pixels = np.resize(squares.astype(np.uint8), shape)
    if kind == np.uint8:
        return pixels
    return (pixels.astype(np.float32) - 128) / 64


def load_aqd(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load a compiled detector; the result runs its network only."""
    from ..runtime.engine import Engine

    compiled, content = file.load(path)
    engine = Engine(compiled, content, threads)
    # Each library gets images in its own memory layout (ours: channels last)
    # and reuses the memory of its outputs.
    count, channels, height, width = shape
    image = _images((count, height, width, channels), np.uint8)
    image = image.transpose(0, 3, 1, 2)
    out: dict[str, np.ndarray] | None = None

    def run() -> dict[str, np.ndarray]:
        nonlocal out
        out = engine.run(compiled.program, image, out)
        return out

    return run


def load_onnxruntime(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an ONNX file with ONNX Runtime."""
    session = onnxruntime_session(path, threads, shape)
    (argument,) = session.get_inputs()
    is_uint8 = argument.type == 'tensor(uint8)'
    image = _images(shape, np.uint8 if is_uint8 else np.float32)
    # Bound inputs and outputs are not copied, as in a C++ program.
    binding = session.io_binding()
    binding.bind_cpu_input(argument.name, image)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def onnxruntime_session(
    path: Path, threads: int, shape: tuple[int, ...] | None = None
) -> Any:
    """Load an ONNX file for the latency of one image at a time.

    Args:
        path: The file.
        threads: Number of threads.
        shape: Shape of all images, for a network that accepts several.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if shape is not None:
        for name, side in zip(DYNAMIC_SIDES.values(), shape[2:], strict=True):
            options.add_free_dimension_override_by_name(name, side)
    return onnxruntime.InferenceSession(
        str(path), options, ['CPUExecutionProvider']
    )


def load_openvino(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an ONNX file, or OpenVINO's own, with OpenVINO."""
    import openvino

    compiled = openvino_model(path, threads, shape)
    is_uint8 = compiled.input(0).element_type == openvino.Type.u8
    image = _images(shape, np.uint8 if is_uint8 else np.float32)
    request = compiled.create_infer_request()
    # Shared inputs and outputs are not copied, as in a C++ program.
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def openvino_model(
    path: Path,
    threads: int,
    shape: tuple[int, ...] | None = None,
    streams: int = 1,
) -> Any:
    """Compile a file for the latency of one image, or of several at a time.

    Args:
        path: An ONNX file, or OpenVINO's own.
        threads: Number of threads.
        shape: Shape of all images, for a network that accepts several.
        streams: Images that run at the same time, which share the threads.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    if shape is not None:
        model.reshape(list(shape))
    compiled = core.compile_model(
        model,
        'CPU',
        {
            'PERFORMANCE_HINT': 'LATENCY' if streams == 1 else 'THROUGHPUT',
            'NUM_STREAMS': streams,
            'INFERENCE_NUM_THREADS': threads,
            'ENABLE_HYPER_THREADING': True,
            # On processors with AMX, the default is bfloat16.
            'INFERENCE_PRECISION_HINT': 'f32',
        },
    )
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    # oneDNN's. OpenVINO compiles its own for a few other layers, such as the
    # upsamplings of a pyramid, and for these it asks the processor.
    kernels = [
        info['primitiveType'].astype(str)
        for info in infos
        if 'Convolution' in info['layerType'].astype(str)
    ]
    check_held(kernels, os.environ.get(MAX_ISA, ''))
    return compiled


def check_held(kernels: Iterable[str], limit: str) -> None:
    """Raise if OpenVINO uses instructions beyond those that it is held to.

    Args:
        kernels: Names of the kernels that it chose for convolutions.
        limit: Value of the variable that holds it; empty for none.

    Raises:
        UserError: With the name of the first such kernel.
    """
    beyond = {'AVX5': ('amx',), 'AVX2': ('amx', 'avx512')}.get(limit[:4], ())
    for kernel in kernels:
        if any(name in kernel for name in beyond):
            raise UserError(
                f'{MAX_ISA}={limit} does not hold OpenVINO: expected kernels '
                f'of these instructions, found {kernel}'
            )


def load_pytorch(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an exported program that PyTorch runs in eager mode."""
    module, image = _exported(path, shape, threads)
    return _without_gradients(module, image)


def load_inductor(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an exported program that inductor compiles in its first run."""
    import torch
    from torch._inductor import config

    # Lets inductor fold norms into weights and pack the weights.
    config.freezing = True
    module, image = _exported(path, shape, threads)
    return _without_gradients(torch.compile(module), image)


def _exported(path: Path, shape: tuple[int, ...], threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    module: Any = torch.export.load(path).module()
    image = torch.from_numpy(_images(shape, np.float32))
    layout = torch.channels_last
    return module.to(memory_format=layout), image.contiguous(
        memory_format=layout
    )


def _without_gradients(module: Any, image: Any) -> Run:
    import torch

    def run() -> Any:
        with torch.no_grad():
            return module(image)

    return run


LOAD: dict[str, Callable[[Path, tuple[int, ...], int], Run]] = {
    'aqd': load_aqd,
    'onnxruntime': load_onnxruntime,
    'openvino': load_openvino,
    'pytorch': load_pytorch,
    'inductor': load_inductor,
}
