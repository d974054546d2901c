"""How each library loads a file and runs it; imported in a worker alone.

A library is imported where it is used, so that a worker has but one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..program import file

Run = Callable[[], Any]


def _images(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    # numpy.random would take 6 MiB of each process.
    squares = np.arange(8191) ** 2 % 8191 % 256
    pixels = np.resize(squares.astype(np.uint8), shape)
    if kind == np.uint8:
        return pixels
    return (pixels.astype(np.float32) - 128) / 64


def load_aqd(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load a compiled detector: its network alone is run."""
    from ..runtime.engine import Engine

    compiled, content = file.load(path)
    engine = Engine(compiled, content, threads)
    # Each library has its own order of an image's bytes, and keeps its
    # outputs' memory: ours has channels innermost, and is told to.
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
    """Load an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, ['CPUExecutionProvider']
    )
    (given,) = session.get_inputs()
    is_bytes = given.type == 'tensor(uint8)'
    image = _images(shape, np.uint8 if is_bytes else np.float32)
    # Outputs are left where they are made, as a C++ program would.
    binding = session.io_binding()
    binding.bind_cpu_input(given.name, image)
    for made in session.get_outputs():
        binding.bind_output(made.name)
    return lambda: session.run_with_iobinding(binding)


def load_openvino(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an ONNX file."""
    import openvino

    compiled = openvino_model(path, threads)
    given = compiled.input(0)
    is_bytes = given.element_type == openvino.Type.u8
    image = _images(shape, np.uint8 if is_bytes else np.float32)
    request = compiled.create_infer_request()
    # Tensors are read and left in place, as a C++ program would.
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def openvino_model(path: Path, threads: int) -> Any:
    """Return an ONNX file, compiled for one image at a time."""
    import openvino

    return openvino.Core().compile_model(
        str(path),
        'CPU',
        {
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': 1,
            'INFERENCE_NUM_THREADS': threads,
            'ENABLE_HYPER_THREADING': True,
            # With AMX its default is bfloat16.
            'INFERENCE_PRECISION_HINT': 'f32',
        },
    )


def load_pytorch(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an exported program, to be run operator by operator."""
    module, image = _exported(path, shape, threads)
    return _without_gradients(module, image)


def load_inductor(path: Path, shape: tuple[int, ...], threads: int) -> Run:
    """Load an exported program, to be compiled in its first run."""
    import torch
    from torch._inductor import config

    # Norms are folded into weights, and these are packed.
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
