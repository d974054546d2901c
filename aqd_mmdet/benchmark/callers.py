"""Loads a detector with each library, from a picture in memory to boxes.

Only worker processes import this. Callers are threads of one process, as each
library recommends: ours shares a detector, ONNX Runtime a session, and
OpenVINO a compiled model, of which each caller has a request.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.images import read_image
from .pipeline import Frame, Pipeline, find_boxes, pipeline_file
from .runners import Run, onnxruntime_session, openvino_model

# Finds boxes, labels and scores in a picture, uint8 (H, W, 3).
Detect = Callable[[np.ndarray], Sequence[np.ndarray]]


def read_pictures(paths: Sequence[str]) -> list[np.ndarray]:
    """Return pictures as all libraries are given them, uint8 (H, W, 3)."""
    return [read_image(Path(path), True) for path in paths]


def load_callers(
    library: str, path: Path, threads: int, callers: int
) -> list[Detect]:
    """Load a detector; return what each of its callers calls.

    Args:
        library: Key of :data:`CALLERS_OF`.
        path: Its file.
        threads: Processors that all callers have together.
        callers: How many call at the same time.
    """
    return list(CALLERS_OF[library](path, threads, callers))


def one_after_another(
    detect: Detect, pictures: Sequence[np.ndarray], first: int
) -> Run:
    """Return a function that finds boxes in the next picture.

    Args:
        detect: Finds them.
        pictures: The pictures.
        first: Index of the picture to begin with.
    """
    order = cycle([*pictures[first:], *pictures[:first]])
    return lambda: detect(next(order))


def _aqd(path: Path, threads: int, callers: int) -> Iterator[Detect]:
    from ..runtime import Detector

    detector = Detector(path, threads)
    for _ in range(callers):
        yield detector


def _onnxruntime(path: Path, threads: int, callers: int) -> Iterator[Detect]:
    pipeline = _read_pipeline(path, threads, callers)
    # A session's threads belong to one call; those of callers are beside them.
    session = onnxruntime_session(path, max(1, threads // callers))
    for _ in range(callers):
        yield _onnxruntime_caller(session, pipeline)


def _onnxruntime_caller(session: Any, pipeline: Pipeline) -> Detect:
    frame = Frame(pipeline)
    # Bound inputs and outputs are not copied, as in a C++ program.
    binding = session.io_binding()
    (argument,) = session.get_inputs()
    binding.bind_cpu_input(argument.name, frame.image)
    maps = [np.empty(x.shape, np.float32) for x in session.get_outputs()]
    for output, out in zip(session.get_outputs(), maps, strict=True):
        binding.bind_output(
            output.name, 'cpu', 0, out.dtype, out.shape, out.ctypes.data
        )

    def detect(picture: np.ndarray) -> Sequence[np.ndarray]:
        size = frame.put(picture)
        session.run_with_iobinding(binding)
        return find_boxes(pipeline.decoding, maps, size, picture.shape[:2])

    return detect


def _openvino(path: Path, threads: int, callers: int) -> Iterator[Detect]:
    pipeline = _read_pipeline(path, threads, callers)
    compiled = openvino_model(path, threads, streams=min(callers, threads))
    for _ in range(callers):
        yield _openvino_caller(compiled.create_infer_request(), pipeline)


def _openvino_caller(request: Any, pipeline: Pipeline) -> Detect:
    import openvino

    frame = Frame(pipeline)
    # Shared inputs and outputs are not copied, as in a C++ program.
    request.set_input_tensor(openvino.Tensor(frame.image, shared_memory=True))

    def detect(picture: np.ndarray) -> Sequence[np.ndarray]:
        size = frame.put(picture)
        request.infer(share_outputs=True)
        maps = [tensor.data for tensor in request.output_tensors]
        return find_boxes(pipeline.decoding, maps, size, picture.shape[:2])

    return detect


def _read_pipeline(path: Path, threads: int, callers: int) -> Pipeline:
    import cv2

    cv2.setNumThreads(max(1, threads // callers))
    # The benchmark itself wrote it, into a folder of its own.
    pipeline: Pipeline = pickle.loads(pipeline_file(path).read_bytes())
    return pipeline


CALLERS_OF: dict[str, Callable[[Path, int, int], Iterator[Detect]]] = {
    'aqd': _aqd,
    'onnxruntime': _onnxruntime,
    'openvino': _openvino,
}
