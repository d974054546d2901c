"""How videos are read and written: by OpenCV or PyAV.

Both turn frames upright by the file's rotation, or refuse it. Neither is
imported before it is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import UserError
from .optional import need

# Of a source that does not say how fast it is.
RATE = Fraction(30)
# A rate such as 30000/1001 is the fraction of the least terms up to this.
MAX_DENOMINATOR = 1001
# Bits that MPEG-4 gets for a pixel: boxes and letters stay sharp.
BITS_PER_PIXEL = 0.3


@dataclass(frozen=True)
class Stream:
    """A video or a camera that is read.

    Attributes:
        frames: RGB, uint8 (H, W, 3).
        rate: Frames a second.
        total: How many there are, as its header says; None if it does not.
    """

    frames: Iterator[np.ndarray]
    rate: Fraction
    total: int | None


class Writer(Protocol):
    """Writes a video."""

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, RGB, uint8 (H, W, 3), all of one size."""

    def close(self) -> None:
        """Complete the file."""


class Backend(Protocol):
    """A library for videos."""

    def read(self, source: int | Path, where: str) -> Stream:
        """Open a camera or a file.

        Args:
            source: Number of a camera, or a file.
            where: How to call it in a message.

        Raises:
            UserError: If it cannot be read.
        """

    def writer(
        self, path: Path, rate: Fraction, size: tuple[int, int]
    ) -> Writer:
        """Begin a file.

        Args:
            path: With the suffix ``.mp4``.
            rate: Frames a second.
            size: Height and width.

        Raises:
            UserError: If it cannot be written.
        """


def backend() -> Backend:
    """Return the library that is installed, OpenCV first.

    Raises:
        UserError: If there is none.
    """
    if find_spec('cv2') is not None:
        return OpenCv()
    if find_spec('av') is not None:
        return PyAv()
    raise UserError(
        'videos and cameras need OpenCV or PyAV, and neither is installed: '
        'pip install opencv-python-headless, or pip install av'
    )


class OpenCv:
    """Videos and cameras by OpenCV.

    Of odd sides its videos lack the last row or column.
    """

    def __init__(self) -> None:
        self.cv2 = need('cv2', 'opencv-python-headless', 'a video')

    def read(self, source: int | Path, where: str) -> Stream:
        """As of :class:`Backend`."""
        cv2 = self.cv2
        name = source if isinstance(source, int) else str(source)
        try:
            capture = cv2.VideoCapture(name)
        except cv2.error:  # of a number that is too large
            capture = None
        if capture is None or not capture.isOpened():
            raise UserError(f'{where}: OpenCV cannot open it')
        rate = Fraction(capture.get(cv2.CAP_PROP_FPS))
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

        def frames() -> Iterator[np.ndarray]:
            try:
                while True:
                    is_read, frame = capture.read()
                    if not is_read:
                        return
                    yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            finally:
                capture.release()

        return Stream(
            frames(),
            rate if rate > 0 else RATE,
            total if total > 0 else None,
        )

    def writer(
        self, path: Path, rate: Fraction, size: tuple[int, int]
    ) -> Writer:
        """As of :class:`Backend`."""
        cv2 = self.cv2
        height, width = size
        code = cv2.VideoWriter.fourcc(*'mp4v')
        made = cv2.VideoWriter(str(path), code, float(rate), (width, height))
        if not made.isOpened():
            raise UserError(
                f'{path}: OpenCV cannot write a video of {width} x {height}'
            )
        return _OpenCvWriter(cv2, made, path)


class _OpenCvWriter:
    def __init__(self, cv2: Any, made: Any, path: Path) -> None:
        self.cv2, self.made, self.path = cv2, made, path
        self.count = 0

    def write(self, frame: np.ndarray) -> None:
        self.made.write(self.cv2.cvtColor(frame, self.cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        self.made.release()
        # OpenCV goes on without a word where a disk is full.
        written = self.cv2.VideoCapture(str(self.path))
        count = int(written.get(self.cv2.CAP_PROP_FRAME_COUNT))
        written.release()
        if count != self.count:
            raise UserError(
                f'--out {self.path.parent}: of {self.count} frames {count} '
                'could be written; free some space or choose another --out'
            )


class PyAv:
    """Videos by PyAV, which has no numbers for cameras."""

    def __init__(self) -> None:
        self.av = need('av', 'av', 'a video')

    def read(self, source: int | Path, where: str) -> Stream:
        """As of :class:`Backend`."""
        if isinstance(source, int):
            raise UserError(
                f'{where}: a camera needs OpenCV: '
                'pip install opencv-python-headless'
            )
        try:
            container = self.av.open(str(source))
            stream = container.streams.video[0]
        except (self.av.FFmpegError, IndexError) as error:
            raise UserError(
                f'{where}: PyAV cannot open it ({error})'
            ) from None

        def frames() -> Iterator[np.ndarray]:
            with container:
                decoded = container.decode(stream)
                while (frame := self._next(decoded, where)) is not None:
                    yield frame.to_ndarray(format='rgb24')

        rate = stream.average_rate or RATE
        return Stream(frames(), Fraction(rate), stream.frames or None)

    def _next(self, decoded: Iterator[Any], where: str) -> Any:
        """Return the next frame, or None behind the last."""
        try:
            frame = next(decoded, None)
        except self.av.FFmpegError as error:
            raise UserError(f'{where}: it is damaged ({error})') from None
        if frame is not None and frame.rotation:
            raise UserError(
                f'{where}: it is turned by {frame.rotation} degrees: save it '
                'upright, or install OpenCV'
            )
        return frame

    def writer(
        self, path: Path, rate: Fraction, size: tuple[int, int]
    ) -> Writer:
        """As of :class:`Backend`."""
        rate = rate.limit_denominator(MAX_DENOMINATOR)
        height, width = size
        try:
            container = self.av.open(str(path), 'w')
            stream = container.add_stream('mpeg4', rate=rate)
        except self.av.FFmpegError as error:
            raise UserError(
                f'{path}: PyAV cannot write it ({error})'
            ) from None
        stream.height, stream.width = height, width
        stream.pix_fmt = 'yuv420p'
        stream.bit_rate = int(height * width * rate * BITS_PER_PIXEL)
        return _PyAvWriter(self.av, container, stream)


class _PyAvWriter:
    def __init__(self, av: Any, container: Any, stream: Any) -> None:
        self.av, self.container, self.stream = av, container, stream

    def write(self, frame: np.ndarray) -> None:
        made = self.av.VideoFrame.from_ndarray(frame, format='rgb24')
        self.container.mux(self.stream.encode(made))

    def close(self) -> None:
        self.container.mux(self.stream.encode())
        self.container.close()
