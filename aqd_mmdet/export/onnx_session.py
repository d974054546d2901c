"""A detector that was exported with its boxes, in ONNX Runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..files import parse_json
from ..program.container import VERSION
from ..program.detector import CompiledDetector, PreProcess
from ..program.selection import Selection
from ..runtime.optional import need
from ..runtime.postprocess import rescaled
from ..runtime.prediction import Detections
from .onnx_detector import OUTPUTS, SIZE
from .onnx_model import IMAGE
from .onnx_proto import EXTRA, PRODUCER

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class About:
    """What the metadata of an exported file says of its detector.

    Attributes:
        labels: Class names.
        preprocess: What precedes the network.
        stride: Height and width of the image are multiples of it.
        selection: Which boxes are kept.
    """

    labels: tuple[str, ...]
    preprocess: PreProcess
    stride: int
    selection: Selection


class ExportedDetector:
    """Finds boxes with a file that tools/export.py wrote with ``--boxes``.

    Sums of 8 bits are exact on all processors.

    Args:
        path: The file.
        threads: Of ONNX Runtime.

    Attributes:
        about: What its metadata says.

    Raises:
        UserError: If the file is missing or no such file, or a package.
    """

    def __init__(self, path: Path, threads: int) -> None:
        model = read_model(path)
        self.about = read_about(path, model)
        self._session = session(model, threads)

    def boxes(
        self,
        image: np.ndarray,
        size: tuple[int, int],
        original: tuple[int, int],
    ) -> Detections:
        """Return the detections in one image.

        Args:
            image: The network's, uint8 (1, 3, H, W).
            size: Its height and width before its border.
            original: Height and width of the image that was given.
        """
        given = {IMAGE: image, SIZE: np.array(size, np.int64)}
        boxes, labels, scores = self._session.run(list(OUTPUTS), given)
        edges = rescaled(boxes.astype(np.int64), size, original)
        return Detections(edges.astype(np.int32), labels, scores)


def read_model(path: Path) -> 'onnx.ModelProto':
    """Return the model in a file that was exported with its boxes.

    Args:
        path: The file.

    Raises:
        UserError: If the file is missing or no such file, or a package.
    """
    onnx = need('onnx', EXTRA, f'evaluating {path}')
    need('onnxruntime', EXTRA, f'evaluating {path}')
    if not path.is_file():
        raise UserError(f'model {path}: no such file')
    # What protobuf raises is of a module that may be named differently.
    try:
        model = onnx.load_from_string(path.read_bytes())
    except Exception as error:
        raise UserError(
            f'model {path}: expected a file of ONNX, found '
            f'{type(error).__name__}'
        ) from None
    if model.producer_name != PRODUCER:
        raise UserError(
            f'model {path}: expected a file that tools/export.py wrote, found '
            f'one of {model.producer_name or "no producer"}'
        )
    outputs = [each.name for each in model.graph.output]
    if outputs != list(OUTPUTS):
        raise UserError(
            f'model {path}: expected the outputs {", ".join(OUTPUTS)}, found '
            f'{", ".join(outputs)}: export it again with --boxes'
        )
    return model


def read_about(path: Path, model: 'onnx.ModelProto') -> About:
    """Return what the metadata of a file says.

    Args:
        path: The file, for messages.
        model: What it holds.

    Raises:
        UserError: If something is missing or not as docs/export.md says.
    """
    texts = {each.key: each.value for each in model.metadata_props}
    try:
        found = {
            key: parse_json(text)
            for key, text in texts.items()
            # Other tools may have added texts of theirs.
            if key.startswith('aqd.')
        }
        version = found['aqd.format_version']
        if version != VERSION:
            raise UserError(
                f'model {path}: expected version {VERSION} of its metadata, '
                f'found {version}: export it again'
            )
        return about_of(found)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f'model {path}: its metadata are not those of this version '
            f'({error}): export it again'
        ) from None


def about_of(found: Mapping[str, Any]) -> About:
    """Return what metadata say, read from JSON."""
    frame = dict(found['aqd.preprocess'])
    del frame['kind']
    frame['fill'] = tuple(frame['fill'])
    kept = dict(found['aqd.selection'])
    kept['scales'] = tuple(kept['scales'])
    return About(
        tuple(found['aqd.labels']),
        PreProcess(**frame),
        int(found['aqd.stride']),
        Selection(**kept),
    )


def about_detector(detector: CompiledDetector) -> About:
    """Return what the metadata of a file would say of a detector."""
    return About(
        detector.labels,
        detector.preprocess,
        detector.program.stride,
        Selection.of(detector),
    )


def session(model: 'onnx.ModelProto', threads: int) -> Any:
    """Return a session of ONNX Runtime, which prints no warnings.

    It is exact on all processors. Those without VNNI cut off sums of two
    products of 8 bits, unless they are told not to.

    Args:
        model: What it runs; its nodes may be given weights of their own.
        threads: How many.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry('session.x64quantprecision', '1')
    give_own_weights(model)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )


def give_own_weights(model: 'onnx.ModelProto') -> None:
    """Change a model so that no two nodes share an int8 constant.

    ONNX Runtime 1.32 makes them unsigned for each node, and fails at the
    second of two that share one.
    """
    import onnx

    constants = {
        each.name: each
        for each in model.graph.initializer
        if each.data_type == onnx.TensorProto.INT8
    }
    seen: set[str] = set()
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name not in constants:
                continue
            if name in seen:
                own = model.graph.initializer.add()
                own.CopyFrom(constants[name])
                # Names of constants may have numbers behind them already.
                own.name = node.input[i] = f'{name}/{node.output[0]}/{i}'
            seen.add(name)
