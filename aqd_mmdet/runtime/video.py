"""Videos and cameras, by PyAV or OpenCV, whichever is installed."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..progress import progress
from . import outputs
from .detector import Detector
from .video_backends import Frame, Stream, Writer, backend

SUFFIXES = (
    '.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv',
)  # fmt: skip
# A sound track may be longer than its pictures by some tenths of a second.
MISSING_S = 0.5


def as_stream(source: Path) -> int | Path | None:
    """Return the number of a camera or the file of a video, or None.

    Args:
        source: What a user named. An existing file is no camera, and a
            folder no video.
    """
    name = str(source)
    if name.isascii() and name.isdecimal() and not source.exists():
        return int(name)
    is_video = source.suffix.lower() in SUFFIXES and not source.is_dir()
    return source if is_video else None


def described(source: int | Path) -> str:
    """Return how a source of :func:`as_stream` is called in messages."""
    return f'{"camera" if isinstance(source, int) else "video"} {source}'


def draw_stream(
    detector: Detector,
    source: int | Path,
    out: Path,
    score: float,
    font: Path | None,
) -> None:
    """Write a video with the boxes of each frame.

    A camera is read until Ctrl-C.

    Args:
        detector: What finds them.
        source: Of :func:`as_stream`.
        out: Folder of the video.
        score: Least score that is drawn.
        font: File of a font, or None.

    Raises:
        UserError: If the source cannot be read, or the video not written.
    """
    library = backend(source)
    where = described(source)
    target = _target(source, out)
    if isinstance(source, Path) and not source.is_file():
        raise UserError(f'{where}: no such file')
    stream = library.read(source, where)
    first = next(stream.frames, None)
    if first is None:
        raise UserError(f'{where}: it has no frames that can be read')
    outputs.make_folders(out, [target])
    done, last, start = 0, first, time.monotonic()
    size = first.pixels.shape[:2]
    with (
        _complete(target) as part,
        closing(library.writer(part, stream.rate, size)) as writer,
        progress(total=stream.total, desc='detecting', unit='frame') as bar,
    ):
        film = _Film(writer, stream.rate)
        try:
            for last in _all_frames(first, stream.frames, where):
                prediction = detector.predict(last.pixels, score, where)
                film.write(prediction.plot(score, font), last.seconds)
                done += 1
                bar.update()
        except KeyboardInterrupt:
            if isinstance(source, Path) or not done:
                raise
    rate = done / max(time.monotonic() - start, 1e-9)
    print(f'{where}: {done} frames, {rate:.1f} frames per second, {target}')
    if isinstance(source, Path):
        _report_missing(where, stream, last)


class _Film:
    """Writes pictures at their times, at a constant rate.

    Where one comes late, as from a camera that is faster than the detector,
    or in a file of a variable rate, the one before it is repeated. One that
    comes in the time of the one before is left out.

    Args:
        writer: What writes them.
        rate: Frames a second.
    """

    def __init__(self, writer: Writer, rate: Fraction) -> None:
        self.writer, self.rate = writer, rate
        self.count = 0
        self.before: np.ndarray | None = None

    def write(self, picture: np.ndarray, seconds: float) -> None:
        """Append a picture, behind as many of the one before as it lasts."""
        place = round(seconds * self.rate)
        if place < self.count:
            return
        if self.before is not None:
            for _ in range(place - self.count):
                self._append(self.before)
        self._append(picture)
        self.before = picture

    def _append(self, picture: np.ndarray) -> None:
        self.writer.write(picture)
        self.count += 1


def _report_missing(where: str, stream: Stream, last: Frame) -> None:
    """Say if a file is shorter than its header says."""
    shown = last.seconds + float(1 / stream.rate)
    if stream.seconds is not None and shown < stream.seconds - MISSING_S:
        print(
            f'{where}: its header says that it has {stream.seconds:.1f} s; no '
            f'more than {shown:.1f} s could be read',
            file=sys.stderr,
        )


def _target(source: int | Path, out: Path) -> Path:
    """Return the file to write, which must not be there yet."""
    name = f'camera{source}' if isinstance(source, int) else source.stem
    target = out / f'{name}.mp4'
    if target.exists() or target.is_symlink():
        raise UserError(
            f'--out {out}: {target.name} exists: move it or choose another '
            '--out'
        )
    return target


def _all_frames(
    first: Frame, rest: Iterator[Frame], where: str
) -> Iterator[Frame]:
    yield first
    shape = first.pixels.shape
    for number, frame in enumerate(rest, 1):
        if frame.pixels.shape != shape:
            raise UserError(
                f'{where}: frame {number} has the shape {frame.pixels.shape}, '
                f'the first one {shape}: a video has one size'
            )
        yield frame


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """Give a file beside the target, and name it so if all went well."""
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix='.', suffix=target.suffix, delete=False
    ) as file:
        part = Path(file.name)
    try:
        yield part
        os.umask(mask := os.umask(0))
        part.chmod(0o666 & ~mask)  # the temporary file is for its owner alone
        part.replace(target)
    except OSError as error:
        raise UserError(
            f'--out {target.parent}: cannot write {target.name} '
            f'({error.strerror}); free some space or choose another --out'
        ) from None
    finally:
        part.unlink(missing_ok=True)
