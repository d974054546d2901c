"""How videos are read and written: by PyAV or OpenCV.

Both turn frames upright by the file's rotation, or refuse it. Neither is
imported before it is used.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import UserError
from .optional import need

# Frames a second of a source without a rate, or with an impossible one.
RATE = Fraction(30)
MAX_RATE = 240
# Longer gaps between frames are taken for damaged timestamps.
MAX_PAUSE_S = 600.0
# A rate such as 30000/1001 is the fraction of the least terms up to this.
MAX_DENOMINATOR = 1001
# Bits that MPEG-4 gets for a pixel: boxes and letters stay sharp.
BITS_PER_PIXEL = 0.3


@dataclass(frozen=True)
class Frame:
    """A picture of a video.

    Attributes:
        pixels: RGB, uint8 (H, W, 3).
        seconds: When it is shown, counted from the first frame.
    """

    pixels: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Stream:
    """A video or a camera that is read.

    Attributes:
        frames: Its pictures.
        rate: Frames a second.
        total: About how many there are; None if the header does not say.
        seconds: How long it is, as its header says; None if it does not.
    """

    frames: Iterator[Frame]
    rate: Fraction
    total: int | None
    seconds: float | None


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


def backend(source: int | Path) -> Backend:
    """Return the library that reads a camera or a file.

    PyAV is the first choice for files: OpenCV converts the colours of all
    videos as those of standard definition, also those of HD.

    Args:
        source: Number of a camera, or a file.

    Raises:
        UserError: If none is installed.
    """
    if isinstance(source, Path) and find_spec('av') is not None:
        return PyAv()
    if find_spec('cv2') is not None:
        return OpenCv()
    if isinstance(source, int):
        raise UserError(
            f'camera {source}: needs OpenCV, which is not installed: '
            'pip install opencv-python-headless'
        )
    raise UserError(
        'videos need PyAV or OpenCV, and neither is installed: '
        'pip install av, or pip install opencv-python-headless'
    )


def _timed(
    pictures: Iterable[tuple[np.ndarray, float | None]], rate: Fraction
) -> Iterator[Frame]:
    """Count times from the first one.

    Missing and damaged timestamps are replaced by the rate: OpenCV gives the
    last frames of an MPEG the time 0, and clocks jump when they overflow.
    """
    before: float | None = None
    last = 0.0
    for number, (pixels, seconds) in enumerate(pictures):
        step = float(1 / rate)
        if seconds is not None and before is not None:
            passed = seconds - before
            step = passed if 0 < passed <= MAX_PAUSE_S else step
        before = before if seconds is None else seconds
        last += step if number else 0.0
        yield Frame(pixels, last)


def _usual(rate: Fraction | None) -> Fraction:
    return rate if rate is not None and 0 < rate <= MAX_RATE else RATE


class OpenCv:
    """Videos and cameras by OpenCV.

    It writes even sides alone: a last row or column is there twice.
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
        is_camera = isinstance(source, int)
        rate = _usual(Fraction(capture.get(cv2.CAP_PROP_FPS)))
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

        def pictures() -> Iterator[tuple[np.ndarray, float]]:
            try:
                while True:
                    is_read, frame = capture.read()
                    if not is_read:
                        return
                    seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    if is_camera:
                        seconds = time.monotonic()
                    yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), seconds
            finally:
                capture.release()

        frames = _timed(pictures(), rate)
        if total <= 0:  # of a camera
            return Stream(frames, rate, None, None)
        return Stream(frames, rate, total, float(total / rate))

    def writer(
        self, path: Path, rate: Fraction, size: tuple[int, int]
    ) -> Writer:
        """As of :class:`Backend`."""
        cv2 = self.cv2
        height, width = size
        code = cv2.VideoWriter.fourcc(*'mp4v')
        even = width + width % 2, height + height % 2
        made = cv2.VideoWriter(str(path), code, float(rate), even)
        if not made.isOpened():
            raise UserError(
                f'--out {path.parent}: OpenCV cannot write a video of {width} '
                f'x {height}'
            )
        return _OpenCvWriter(cv2, made, path)


class _OpenCvWriter:
    def __init__(self, cv2: Any, made: Any, path: Path) -> None:
        self.cv2, self.made, self.path = cv2, made, path
        self.count = 0

    def write(self, frame: np.ndarray) -> None:
        height, width, _ = frame.shape
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
        self.made.write(self.cv2.cvtColor(even, self.cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        self.made.release()
        # OpenCV goes on without a word where a disk is full.
        written = self.cv2.VideoCapture(str(self.path))
        count = int(written.get(self.cv2.CAP_PROP_FRAME_COUNT))
        written.release()
        # One may be more: Ctrl-C comes between a frame and its count.
        if count < self.count:
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

        rate = _usual(stream.guessed_rate)
        seconds = None
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:  # of all its streams
            seconds = container.duration / self.av.time_base

        def pictures() -> Iterator[tuple[np.ndarray, float | None]]:
            with container:
                decoded = container.decode(stream)
                while (frame := self._next(decoded, where)) is not None:
                    yield self._upright(frame, where), frame.time

        total = stream.frames or (seconds and round(seconds * rate)) or None
        return Stream(_timed(pictures(), rate), rate, total, seconds)

    def _next(self, decoded: Iterator[Any], where: str) -> Any:
        """Return the next frame, or None behind the last."""
        try:
            return next(decoded, None)
        except self.av.FFmpegError as error:
            raise UserError(f'{where}: it is damaged ({error})') from None

    def _upright(self, frame: Any, where: str) -> np.ndarray:
        """Return a frame's pixels, turned by the file's rotation."""
        quarters, rest = divmod(frame.rotation, 90)
        if rest:
            raise UserError(
                f'{where}: it is turned by {frame.rotation} degrees: save it '
                'upright'
            )
        # Counterclockwise both.
        return np.rot90(frame.to_ndarray(format='rgb24'), quarters)

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
