"""An exported file beside its detector, on pictures: docs/export.md."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..program import ops as ir
from ..runtime.detector import Detector
from ..runtime.images import read_image
from ..runtime.optional import need
from ..runtime.preprocess import check_image, prepare
from ..runtime.processors import processors
from .onnx_model import IMAGE
from .onnx_proto import EXTRA
from .onnx_session import session


@dataclass(frozen=True)
class Agreement:
    """How the maps of a file are those of its detector.

    Attributes:
        pictures: How many were compared.
        codes: Numbers in all of their maps.
        different: How many of these are not the detector's.
        largest: The largest difference, in units of a map.
    """

    pictures: int = 0
    codes: int = 0
    different: int = 0
    largest: int = 0

    def __str__(self) -> str:
        text = f'{self.pictures} picture{"s" * (self.pictures != 1)}, '
        text += f'{self.codes:,} codes of maps: '
        if self.different == 0:
            return text + "all are the engine's"
        return text + (
            f"{self.different:,} are not the engine's, and differ by "
            f'{self.largest:,} at most'
        )


def agreement(
    content: bytes, detector: Detector, pictures: Iterable[Path]
) -> Agreement:
    """Run a file in ONNX Runtime, and compare its maps with the engine's.

    Args:
        content: Of the file, which ends with maps.
        detector: What was exported.
        pictures: Files; each is resized as the detector does.

    Raises:
        UserError: If a picture cannot be read, if a package is missing, or
            if maps that are integers, and so exact, are not equal.
    """
    onnx = need('onnx', EXTRA, '--check')
    need('onnxruntime', EXTRA, '--check')
    runner = session(onnx.load_from_string(content), processors())
    program, pre = detector.compiled.program, detector.compiled.preprocess
    found = Agreement()
    for path in pictures:
        pixels = check_image(read_image(path, pre.oriented), f'image {path}')
        image, _ = prepare(pixels, pre, program.stride)
        # First, since it refuses what it does not take.
        expected = detector.run(program, image)
        maps = runner.run(None, {IMAGE: image})
        for name, exact, off in differences(program, maps, expected):
            wrong = int(np.count_nonzero(off))
            if wrong and exact:
                raise UserError(
                    f'image {path}: {wrong:,} of {off.size:,} codes of {name} '
                    "are not the engine's in ONNX Runtime, and all of them "
                    'must be: nothing was written'
                )
            found = replace(
                found,
                codes=found.codes + off.size,
                different=found.different + wrong,
                largest=max(found.largest, int(off.max())),
            )
        found = replace(found, pictures=found.pictures + 1)
    return found


def differences(
    program: ir.Program,
    maps: Sequence[np.ndarray],
    expected: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, bool, np.ndarray]]:
    """Yield of each map its name, whether it is exact, and what it is off.

    Args:
        program: What was exported.
        maps: In the order of its outputs; codes, which are exact, or real
            values.
        expected: The program's codes, by the names of its tensors.
    """
    names = program.output_names()
    # As the file has them.
    scales = [
        np.float32(out.scale) for out in program.outputs for _ in out.tensors
    ]
    for name, scale, values in zip(names, scales, maps, strict=True):
        exact = values.dtype == np.int32
        codes = values if exact else np.rint(values.astype(float) / scale)
        yield name, exact, np.abs(codes - expected[name].astype(np.int64))
