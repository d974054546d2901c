"""A compiled detector, ready to be called."""

import os
import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..errors import UserError
from ..program import file
from ..program.detector import CompiledDetector
from . import engine, postprocess, reference, regions
from .optional import need
from .prediction import Detections, Prediction, above, check_score
from .preprocess import check_image, prepare
from .processors import processors
from .scores import shown

# An image file, or pixels.
Picture = str | os.PathLike | np.ndarray
Pictures = list[Any] | tuple[Any, ...]


class Detector:
    """Finds objects by a compiled program, from bytes to boxes on integers.

    The engine does all of it, where it is there; else, or if ``run`` is
    given, the functions in Python do, which are what it is tested equal to.

    Several Python threads may call one detector at a time, and each finds
    what it would find alone. They share its weights; memory for an image is
    there once for each call that runs. In the engine as many calls run at a
    time as it has threads, or as there are processors, if these are more;
    further ones wait for their turn. A forked process may call it as well.

    Pickled, it is its file's path, which the other process reads again, or
    its content, if it was not made from a file.

    Args:
        path: A file ``model.aqd``, or what one was read as.
        threads: How many of the engine's threads run a call, as long as no
            other call needs them; by default one for each processor that
            this process may use. The result does not depend on it.
        run: What runs programs; the engine, unless it is given. Anything
            that is equal to the reference may.

    Attributes:
        compiled: What the file holds.
        labels: Class names.
        run: Runs programs.
    """

    def __init__(
        self,
        path: str | Path | CompiledDetector,
        threads: int | None = None,
        run: regions.Run | None = None,
    ) -> None:
        if threads is not None and not isinstance(threads, Integral):
            raise UserError(f'threads={threads!r}: give a whole number')
        if isinstance(path, CompiledDetector):
            self.compiled, content = path, file.to_bytes(path)
            self._path = None
        else:
            self.compiled, content = file.load(path)
            self._path = Path(path).absolute()
        self._threads, self._is_run_given = threads, run is not None
        self.labels = self.compiled.labels
        self._engine: engine.Engine | None = None
        if run is not None:
            self.run = run
        elif engine.library() is not None:
            threads = processors() if threads is None else threads
            self._engine = engine.Engine(self.compiled, content, threads)
            self.run = self._engine.run
        else:
            warnings.warn(
                'the engine is not built (pip install with a C++ compiler '
                'builds it): the reference executor runs, which is slow',
                RuntimeWarning,
                stacklevel=2,
            )
            self.run = reference.run

    @overload
    def __call__(self, image: np.ndarray, name: str = ...) -> Detections: ...

    @overload
    def __call__(
        self, image: Sequence[np.ndarray], name: str = ...
    ) -> list[Detections]: ...

    def __call__(
        self, image: np.ndarray | Sequence[np.ndarray], name: str = 'image'
    ) -> Detections | list[Detections]:
        """Find objects.

        Args:
            image: RGB, uint8 (height, width, 3); or a list or tuple of such
                images, of any sizes. Each of these is resized and run by
                itself, one after another and each on all threads, so that
                what is found in it does not depend on the others.
            name: How to call it in a message; those of a list are numbered.

        Returns:
            Detections, or a list of them if a list was given.

        Raises:
            UserError: If one is not such an image; then none of them is run.
        """
        if isinstance(image, (list, tuple)):
            for number, each in enumerate(image):
                check_image(each, f'{name} {number}')
            return [self._detect(each) for each in image]
        return self._detect(check_image(image, name))

    @overload
    def predict(
        self, source: np.ndarray, score: float = ..., name: str = ...
    ) -> Prediction: ...

    @overload  # an iterator, if it is a folder
    def predict(
        self, source: str | os.PathLike, score: float = ..., name: str = ...
    ) -> Prediction | Any: ...

    @overload
    def predict(
        self, source: Pictures, score: float = ..., name: str = ...
    ) -> list[Prediction]: ...

    def predict(
        self,
        source: Picture | Pictures,
        score: float = 0.0,
        name: str = 'image',
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Find objects in arrays and image files; give boxes in pixels.

        Args:
            source: RGB, uint8 (height, width, 3); an image file; a list or
                tuple of such; or a folder.
            score: Least score of what is kept, from 0 to 1. The detector has
                a least score of its own.
            name: How to call an array in a message; those of a list are
                numbered.

        Returns:
            Prediction, or a list of them if a list was given, or an iterator
            if a folder was: over the pictures in it, in the order of their
            names, each of which is read when it is asked for.

        Raises:
            UserError: If an image is not one that the detector reads, or
                Pillow is missing, which reads files.
        """
        check_score(score)
        if isinstance(source, str) and not source:
            raise UserError(f'{name}: an empty name')
        if isinstance(source, (list, tuple)):
            return [
                self._predict(each, score, f'{name} {number}')
                for number, each in enumerate(source)
            ]
        if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
            need('PIL', 'pillow', 'reading image files')
            from .sources import pictures_in

            paths, _ = pictures_in(Path(source))
            return (self._predict(path, score, '') for path in paths)
        return self._predict(source, score, name)

    def _predict(self, source: Any, score: float, name: str) -> Prediction:
        path = None
        image, oriented = source, self.compiled.preprocess.oriented
        if isinstance(source, (str, os.PathLike)):
            need('PIL', 'pillow', 'reading image files')
            from .images import read_image

            path = Path(source)
            name, image = f'image {path}', read_image(path, oriented)
        found = self._detect(check_image(image, name))
        return Prediction(
            above(found, score),
            self.labels,
            (image.shape[0], image.shape[1]),
            path,
            image if path is None else None,
            oriented,
        )

    def __reduce__(self) -> tuple:
        if self._is_run_given:
            raise UserError(
                'a detector that was given run= cannot be pickled: make one '
                'in each process'
            )
        if self._path is not None:
            return type(self), (self._path, self._threads)
        content = file.to_bytes(self.compiled)
        return _from_content, (type(self), content, self._threads)

    def _detect(self, image: np.ndarray) -> Detections:
        if self._engine is not None:
            return Detections(*self._engine.detect(image))
        program = self.compiled.program
        pixels, size = prepare(image, self.compiled.preprocess, program.stride)
        outputs = self.run(program, pixels)
        return self.boxes(outputs, 0, size, image.shape[:2])

    def boxes(
        self,
        outputs: dict[str, np.ndarray],
        index: int,
        size: tuple[int, int],
        original: tuple[int, int],
    ) -> Detections:
        """Return the detections in one image of a batch that was run.

        Args:
            outputs: The program's, int32 (N, C, H, W).
            index: Of the image.
            size: Height and width of the network's image before its border.
            original: Height and width of the image that was given.
        """
        post = self.compiled.postprocess
        maps = [
            [outputs[name][index] for name in out.tensors]
            for out in self.compiled.program.outputs
        ]
        second = self.compiled.regions
        if second is None:
            found = postprocess.detect(post, maps, size)
            scores = shown(post.scores, found.ranks)
        else:
            proposals = postprocess.propose(post, maps[:2], size)
            features = [maps[stage.features] for stage in second.stages]
            found = regions.detect_regions(
                second, features, proposals, size, self.run
            )
            scores = found.ranks
        corners = postprocess.rescaled(found.corners, size, original)
        return Detections(
            corners.astype(np.int32),
            found.labels.astype(np.int32),
            scores.astype(np.int32),
        )


def _from_content(
    kind: type[Detector], content: bytes, threads: int | None
) -> Detector:
    return kind(file.from_bytes(content), threads)
